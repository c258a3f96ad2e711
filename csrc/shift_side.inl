// One model's side of a shift row: norm, entropy, the target's place, the top list, the nucleus.
// Included by shift_rows.inl, after draw_scan.inl, whose stretches and double weights it uses.
//
// A row is read once: a chunk at a time its largest logits are found, then its sums taken while it is
// in the nearest cache. What needs an order of tokens looks only at stretches whose largest logit says
// that they have some of them.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "shift_rows.h"

namespace urial {
namespace URIAL_LEVEL {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr float kLeast = -87.0f;  // exp of this is nothing beside a largest weight of 1
constexpr double kNucleus = 0.9 - 1e-6;  // of the probability; less what rounding takes from sums
constexpr std::size_t kReach[] = {64, 256};  // stretches that reach the logits gathered down to
constexpr int kNucleusBins = 4096;

// exp(x) for -87 <= x <= 0, within 4e-7 of itself for x > -20. As exp2_rough, but the product is not rounded before its
// whole part is taken off (where the processor multiplies and adds in one step).
inline float exp_rough(float x) {
  const float log2e = 1.44269504f, shifter = 12582912.0f;  // 1.5 * 2^23
  const float z = x * log2e + shifter;
  const float f = x * log2e - (z - shifter);
  float p = 1.32647273e-3f;
  p = p * f + 9.67151299e-3f;
  p = p * f + 5.55073358e-2f;
  p = p * f + 2.40222424e-1f;
  p = p * f + 6.93147004e-1f;
  p = p * f + 1.0f;
  std::uint32_t n, bits;
  std::memcpy(&n, &z, sizeof n);
  std::memcpy(&bits, &p, sizeof bits);
  bits += n << 23;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

// The sum of lanes, by halves.
inline float sum_lanes(const float *lanes) {
  float a[16], b[8];
  for (int l = 0; l < 16; ++l) a[l] = lanes[l] + lanes[l + 16];
  for (int l = 0; l < 8; ++l) b[l] = a[l] + a[l + 8];
  return ((b[0] + b[4]) + (b[2] + b[6])) + ((b[1] + b[5]) + (b[3] + b[7]));
}

// Sums over tokens with e = exp(x - top): of e, and of e (top - x). No term is negative.
struct Weights {
  double sum = 0.0, moment = 0.0;

  // -sum of p ln p over these tokens alone, their probabilities made to sum to one.
  double entropy() const { return std::log(sum) + moment / sum; }

  // The same sums about a higher top.
  void raise(double by) {
    const double less = std::exp(-by);
    moment = (moment + by * sum) * less;
    sum *= less;
  }
};

// Adds n tokens to `all`, and with kLimit those above a limit to `above`, too.
template <bool kLimit>
inline void add_weights(const float *x, std::size_t n, float top, float limit, Weights &all,
                        Weights &above) {
  float sum[kLanes] = {}, moment[kLanes] = {}, sum_above[kLanes] = {}, moment_above[kLanes] = {};
  const auto one = [&](float value, int l) {
    float d = value - top;
    d = d < kLeast ? kLeast : d;  // keeps 0 * inf out; a NaN stays one
    const float e = exp_rough(d), m = e * d;
    sum[l] += e;
    moment[l] -= m;
    if (kLimit) {
      const float in = value > limit ? 1.0f : 0.0f;
      sum_above[l] += in * e;
      moment_above[l] -= in * m;
    }
  };
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) one(x[i + l], l);
  for (; i < n; ++i) one(x[i], 0);
  all.sum += static_cast<double>(sum_lanes(sum));
  all.moment += static_cast<double>(sum_lanes(moment));
  if (kLimit) {
    above.sum += static_cast<double>(sum_lanes(sum_above));
    above.moment += static_cast<double>(sum_lanes(moment_above));
  }
}

struct Side {
  bool finite = false;
  bool holes = false;       // there are logits of -inf
  float top = kNothing;     // the largest logit
  std::int64_t rank = 0;    // of the target
  Weights all, above;       // above: of logits greater than the target's
  double log_sum = 0.0;     // ln sum_v exp(x - top)
  std::vector<float> most;  // the largest logit of each stretch

  double log_sum_exp() const { return static_cast<double>(top) + log_sum; }
  double logprob(float x) const { return static_cast<double>(x) - top - log_sum; }
};

inline bool has_nan(const float *x, std::size_t n) {
  std::int32_t bad[kLanes] = {};
  largest(x, n, bad);
  return std::any_of(bad, bad + kLanes, [](std::int32_t b) { return b != 0; });
}

// Logits greater than the target's, and equal ones at lower ids; `start` is the first one's id.
inline std::int64_t before_target(const float *x, std::size_t n, std::size_t start, float t,
                                  std::size_t target) {
  const std::size_t below = target > start ? std::min(n, target - start) : 0;
  std::int32_t before = 0;
  for (std::size_t i = 0; i < below; ++i) before += x[i] >= t;
  for (std::size_t i = below; i < n; ++i) before += x[i] > t;
  return before;
}

inline Side side(const float *row, std::size_t n, std::size_t target) {
  Side s;
  const float t = row[target];
  s.most.resize((n + kStretch - 1) / kStretch);
  float least[kLanes];
  for (int l = 0; l < kLanes; ++l) least[l] = std::numeric_limits<float>::infinity();
  for (std::size_t start = 0; start < n; start += kChunk) {
    const std::size_t size = std::min(kChunk, n - start);
    const float *x = row + start;
    float largest_here = kNothing;
    for (std::size_t at = 0; at < size; at += kStretch) {
      const std::size_t length = std::min(kStretch, size - at);
      float max[kLanes];
      for (int l = 0; l < kLanes; ++l) max[l] = kNothing;
      std::size_t i = at;
      for (; i + kLanes <= at + length; i += kLanes)
        for (int l = 0; l < kLanes; ++l) {
          max[l] = x[i + l] > max[l] ? x[i + l] : max[l];
          least[l] = x[i + l] < least[l] ? x[i + l] : least[l];
        }
      for (; i < at + length; ++i) {
        max[0] = x[i] > max[0] ? x[i] : max[0];
        least[0] = x[i] < least[0] ? x[i] : least[0];
      }
      const float most = s.most[(start + at) / kStretch] = largest_lane(max);
      largest_here = most > largest_here ? most : largest_here;
    }
    if (largest_here == std::numeric_limits<float>::infinity()) return s;
    if (largest_here == kNothing) {  // or NaN throughout
      if (has_nan(x, size)) return s;
      if (t == kNothing) s.rank += before_target(x, size, start, t, target);
      continue;
    }
    if (largest_here > s.top) {
      if (s.top != kNothing) {
        const double by = static_cast<double>(largest_here) - s.top;
        s.all.raise(by);
        s.above.raise(by);
      }
      s.top = largest_here;
    }
    if (largest_here > t)
      add_weights<true>(x, size, s.top, t, s.all, s.above);
    else
      add_weights<false>(x, size, s.top, t, s.all, s.above);
    if (largest_here >= t) s.rank += before_target(x, size, start, t, target);
  }
  s.rank += 1;
  s.finite = std::isfinite(s.all.moment) && s.top != kNothing;  // a NaN makes the moment one
  s.holes = *std::min_element(least, least + kLanes) == kNothing;
  s.log_sum = std::log(s.all.sum);
  return s;
}

// The k largest logits, best first; among equal ones the lower id.
struct Leaders {
  int k, n = 0;
  float x[kMaxTop];
  std::int32_t id[kMaxTop];

  explicit Leaders(int k) : k(k) {}

  float threshold() const { return n < k ? kNothing : x[n - 1]; }

  void offer(float value, std::size_t token) {
    if (!(value > threshold())) return;
    int at = n < k ? n++ : n - 1;
    for (; at > 0 && x[at - 1] < value; --at) {
      x[at] = x[at - 1];
      id[at] = id[at - 1];
    }
    x[at] = value;
    id[at] = static_cast<std::int32_t>(token);
  }
};

inline Leaders leaders(const float *row, std::size_t n, const Side &s, int k) {
  Leaders best(k), stretches(k);
  if (k == 0 || !s.finite) return best;
  for (float most : s.most) stretches.offer(most, 0);
  // As many stretches as there are places reach this logit, so no lower one has a place.
  const float enough = stretches.threshold();
  for (std::size_t i = 0; i < s.most.size(); ++i) {
    if (!(s.most[i] >= enough) || !(s.most[i] > best.threshold())) continue;
    const std::size_t start = i * kStretch, size = std::min(kStretch, n - start);
    const float low = std::max(enough, best.threshold());
    each_within(row + start, size, low, s.top, [&](std::size_t j) {
      best.offer(row[start + j], start + j);
    });
  }
  return best;
}

// The lowest logit in the nucleus, and how many tokens of exactly that logit are in it.
struct Border {
  float x;
  double times;
};

// The logit at which the sum of weights, from `above` on and best first, comes to `wanted`. The
// logits are those that come next, in any order; they are halved by selection.
inline Border border_among(std::vector<float> &x, double above, double wanted, float top) {
  auto begin = x.begin(), end = x.end();
  while (end - begin > static_cast<std::ptrdiff_t>(kSorted)) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, std::greater<float>());
    double sum = above;
    for (auto at = begin; at != middle; ++at) sum += weight(*at, top, 1.0);
    if (sum >= wanted) {
      end = middle;
    } else {
      begin = middle;
      above = sum;
    }
  }
  std::sort(begin, end, std::greater<float>());
  auto at = begin;
  for (; at != end; ++at)
    if ((above += weight(*at, top, 1.0)) >= wanted) break;
  const float found = at == end ? x.back() : *at;
  // Equal logits may stand on both sides of where the range was cut, all before `at` being in.
  const auto last = at == end ? end : at + 1;
  return {found, static_cast<double>(std::count(x.begin(), last, found))};
}

// The same among all logits up to `high`: the sums of bins say in which one the border lies.
inline Border border_of_all(const float *row, std::size_t n, const Side &s, double wanted) {
  // All that lies lower weighs less than what the nucleus leaves out.
  const double spare = (1.0 - kNucleus) * s.all.sum / (2.0 * static_cast<double>(n));
  const float low = s.top + static_cast<float>(std::log(spare));
  const float scale = static_cast<float>(kNucleusBins) / (s.top - low);
  const auto bin = [&](float x) {
    const float at = (s.top - x) * scale;
    return at < static_cast<float>(kNucleusBins) ? static_cast<int>(at) : kNucleusBins;
  };
  std::vector<double> sums(kNucleusBins + 1);
  float weights[kStretch];
  std::int32_t places[kStretch];
  for (std::size_t i = 0; i < s.most.size(); ++i) {
    if (!(s.most[i] >= low)) continue;
    const std::size_t start = i * kStretch, size = std::min(kStretch, n - start);
    const float *x = row + start;
    for (std::size_t j = 0; j < size; ++j) {
      const float d = x[j] - s.top;
      weights[j] = exp_rough(d < kLeast ? kLeast : d);
    }
    for (std::size_t j = 0; j < size; ++j) places[j] = bin(x[j]);
    for (std::size_t j = 0; j < size; ++j) sums[places[j]] += static_cast<double>(weights[j]);
  }
  int chosen = 0;
  double above = 0.0;
  while (chosen < kNucleusBins && above + sums[chosen] < wanted) above += sums[chosen++];
  // Limits that are wide enough whatever the rounding; `bin` decides.
  const float width = 1.0f / scale, upper = s.top - static_cast<float>(chosen) * width;
  std::vector<float> found;
  for (std::size_t i = 0; i < s.most.size(); ++i) {
    const float from = chosen == kNucleusBins ? kNothing : upper - 2.0f * width;
    if (!(s.most[i] >= from)) continue;
    const std::size_t start = i * kStretch, size = std::min(kStretch, n - start);
    each_within(row + start, size, from, upper + width, [&](std::size_t j) {
      if (bin(row[start + j]) == chosen) found.push_back(row[start + j]);
    });
  }
  if (found.empty()) return {low, 0.0};  // by rounding
  return border_among(found, above, wanted, s.top);
}

// The nucleus: the fewest tokens, best first, whose probabilities sum to kNucleus or more. Which of
// several equally probable tokens are in it changes none of its sums.
inline Weights nucleus(const float *row, std::size_t n, const Side &s, const Leaders &best) {
  const double wanted = kNucleus * s.all.sum;
  Weights inside;
  for (int j = 0; j < best.n; ++j) {
    const double w = weight(best.x[j], s.top, 1.0);
    inside.sum += w;
    if (w > 0.0) inside.moment += w * (static_cast<double>(s.top) - best.x[j]);
    if (inside.sum >= wanted) return inside;
  }
  std::vector<float> order(s.most), found;
  Border border{kNothing, 0.0};
  bool known = false;
  for (std::size_t reach : kReach) {
    if (known || reach > order.size()) break;
    const auto at = order.begin() + static_cast<std::ptrdiff_t>(reach - 1);
    std::nth_element(order.begin(), at, order.end(), std::greater<float>());
    const float low = *at;
    found.clear();
    double sum = 0.0;
    for (std::size_t i = 0; i < s.most.size(); ++i) {
      if (!(s.most[i] >= low)) continue;
      const std::size_t start = i * kStretch, size = std::min(kStretch, n - start);
      each_within(row + start, size, low, s.top,
                  [&](std::size_t j) { found.push_back(row[start + j]); });
    }
    for (float x : found) sum += weight(x, s.top, 1.0);
    if (sum < wanted) continue;
    border = border_among(found, 0.0, wanted, s.top);
    known = true;
  }
  if (!known) border = border_of_all(row, n, s, wanted);
  Weights rest;
  inside = Weights{};
  for (std::size_t i = 0; i < s.most.size(); ++i) {
    if (!(s.most[i] > border.x)) continue;
    const std::size_t start = i * kStretch;
    add_weights<true>(row + start, std::min(kStretch, n - start), s.top, border.x, rest, inside);
  }
  const double w = border.times * weight(border.x, s.top, 1.0);
  inside.sum += w;
  if (w > 0.0) inside.moment += w * (static_cast<double>(s.top) - border.x);
  return inside;
}

}  // namespace URIAL_LEVEL
}  // namespace urial

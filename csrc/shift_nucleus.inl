// The nucleus of a row: found among its leading tokens, else among some hundreds gathered by stretches,
// else by sums over bins of logits. Included by shift_rows.inl, after shift_side.inl.

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace urial {
namespace URIAL_LEVEL {

constexpr double kNucleus = 0.9 - 1e-6;  // of the probability; less what rounding takes from sums
constexpr std::size_t kReach[] = {64, 256};  // stretches that reach the logits gathered down to
constexpr int kNucleusBins = 4096;

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

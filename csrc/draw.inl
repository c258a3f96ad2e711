// Included after row_scores.inl into a namespace for each instruction level. Same style: fixed lanes
// that the compiler vectorises, no intrinsics. Weights are double throughout, so that the token
// drawn is the definition's but where a sum lies within rounding of a border.
//
// Nothing sorts the vocabulary. Tokens have an order: larger logits first, among equal ones the
// lower id. Every filter keeps a beginning of that order, so a filter is known by its last token,
// the cut. The first kLead tokens are found in one pass and sorted, and nearly always all borders
// lie among them. A border that lies further down is found by summing weights into bins of logits,
// and looking again into the one bin that holds it.
//
// The sum over all tokens is first taken in single precision. Where a border is the same at both
// ends of what that sum may be off, it is the border; else the sum is taken in double. The penalty
// changes few logits: the leading tokens and the sum are corrected for them, and the whole row is
// written anew only where a border lies beyond the leading tokens.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "draw.h"

namespace urial {
namespace URIAL_LEVEL {

constexpr std::size_t kLead = 256;
constexpr std::size_t kStretch = 256;  // tokens whose largest logit is kept from the first pass
constexpr int kBins = 2048;
constexpr std::size_t kSorted = 4096;  // entries of a bin that are sorted rather than binned again
constexpr std::size_t kBlock = 1024;   // tokens whose weights and bins are computed at a time
constexpr int kWide = 16;              // independent accumulators in double

struct Entry {
  float x;
  std::int32_t id;
};

inline bool before(const Entry &a, const Entry &b) {
  return a.x > b.x || (a.x == b.x && a.id < b.id);
}

constexpr Entry kAll{-std::numeric_limits<float>::infinity(),
                     std::numeric_limits<std::int32_t>::max()};

// exp(x) for x <= 0 to the last digit or two; x < -708 gives 0. As exp_nonpositive, with Taylor's
// polynomial of degree 12: |r| <= ln2/2 leaves 2e-16.
inline double exp_fine(double x) {
  const bool tiny = !(x >= -708.0);
  x = tiny ? 0.0 : x;
  const double shifter = 6755399441055744.0;  // 1.5 * 2^52
  const double z = x * 1.44269504088896340736 + shifter;
  const double n = z - shifter;
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  std::uint64_t bits;  // n stands in the low bits of z
  std::memcpy(&bits, &z, sizeof bits);
  bits = (bits + 1023) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return tiny ? 0.0 : p * scale;
}

// Sum of exp((x - top) * rate) in single precision; off by less than kOff of itself.
constexpr double kOff = 1e-5;
inline double sum_weights(const float *x, std::size_t n, float top, float rate) {
  double total = 0.0;
  for (std::size_t start = 0; start < n; start += kChunk) {
    const std::size_t end = start + kChunk < n ? start + kChunk : n;
    float sum[kLanes] = {};
    std::size_t i = start;
    for (; i + kLanes <= end; i += kLanes)
      for (int l = 0; l < kLanes; ++l) sum[l] += exp_nonpositive((x[i + l] - top) * rate);
    for (; i < end; ++i) sum[0] += exp_nonpositive((x[i] - top) * rate);
    for (int l = 0; l < kLanes; ++l) total += sum[l];
  }
  return total;
}

// exp((x - top) * rate): a token's weight. A rate of 0 counts tokens.
inline double weight(float x, float top, double rate) {
  return exp_fine((static_cast<double>(x) - static_cast<double>(top)) * rate);
}

// The largest of lanes, by halves.
inline float largest_lane(float *lanes) {
  for (int half = kLanes / 2; half; half /= 2)
    for (int l = 0; l < half; ++l)
      lanes[l] = lanes[l + half] > lanes[l] ? lanes[l + half] : lanes[l];
  return lanes[0];
}

// The largest logit; `bad` gets a mark in some lane for each NaN.
inline float largest(const float *x, std::size_t n, std::int32_t *bad) {
  float max[kLanes];
  for (int l = 0; l < kLanes; ++l) max[l] = -std::numeric_limits<float>::infinity();
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      max[l] = x[i + l] > max[l] ? x[i + l] : max[l];
      bad[l] |= x[i + l] != x[i + l];
    }
  for (; i < n; ++i) {
    max[0] = x[i] > max[0] ? x[i] : max[0];
    bad[0] |= x[i] != x[i];
  }
  return largest_lane(max);
}

// The smallest finite logit.
inline float least(const float *x, std::size_t n) {
  const float infinite = std::numeric_limits<float>::infinity();
  float min[kLanes];
  for (int l = 0; l < kLanes; ++l) min[l] = infinite;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const float y = x[i + l] > -infinite ? x[i + l] : infinite;
      min[l] = y < min[l] ? y : min[l];
    }
  for (; i < n; ++i) min[0] = x[i] > -infinite && x[i] < min[0] ? x[i] : min[0];
  return *std::min_element(min, min + kLanes);
}

inline std::int32_t first_of(const float *x, std::size_t n, float value) {
  return static_cast<std::int32_t>(std::find(x, x + n, value) - x) % static_cast<std::int32_t>(n);
}

// The largest logit of each stretch of a row, and whether the row holds a NaN.
struct Stretches {
  std::vector<float> most;
  bool nan = false;
  float top;

  Stretches(const float *x, std::size_t n) : most((n + kStretch - 1) / kStretch) {
    std::int32_t bad[kLanes] = {};
    for (std::size_t s = 0; s < most.size(); ++s)
      most[s] = largest(x + s * kStretch, std::min(kStretch, n - s * kStretch), bad);
    for (std::int32_t b : bad) nan |= b != 0;
    top = *std::max_element(most.begin(), most.end());
  }
};

// The first kLead possible tokens, in order; all of them where there are fewer. Stretches whose
// largest logit is below what kLead of them reach cannot hold any of them.
inline std::vector<Entry> leading(const float *x, std::size_t n, const std::vector<float> &most) {
  const std::size_t stretches = most.size();
  float least = -std::numeric_limits<float>::infinity();
  if (stretches > kLead) {
    std::vector<float> ordered(most);
    std::nth_element(ordered.begin(), ordered.begin() + (kLead - 1), ordered.end(),
                     std::greater<float>());
    least = ordered[kLead - 1];  // kLead stretches reach it, so at least so many tokens do
  }
  std::vector<Entry> found;
  found.reserve(2 * kLead);
  const auto keep_first = [&found] {
    if (found.size() <= kLead) return;
    std::nth_element(found.begin(), found.begin() + (kLead - 1), found.end(), before);
    found.resize(kLead);
  };
  for (std::size_t s = 0; s < stretches; ++s) {
    if (!(most[s] >= least)) continue;
    const std::size_t end = std::min(n, (s + 1) * kStretch);
    for (std::size_t start = s * kStretch; start < end; start += kLanes) {
      const std::size_t stop = std::min(end, start + kLanes);
      int any = 0;
      for (std::size_t i = start; i < stop; ++i) any |= x[i] >= least;
      if (!any) continue;
      for (std::size_t i = start; i < stop; ++i)
        if (x[i] >= least && x[i] > kAll.x) found.push_back({x[i], static_cast<std::int32_t>(i)});
    }
    if (found.size() >= 4 * kLead) {
      keep_first();
      least = found.back().x;
    }
  }
  keep_first();
  std::sort(found.begin(), found.end(), before);
  return found;
}

// What a token is drawn from: logits, and other values for a few of them under the penalty.
class View {
 public:
  // `sum`: of exp(x - top) in single precision; 0 where it is not known.
  View(const float *x, std::size_t n, const Stretches &stretches, double sum, const DrawTask &task,
       std::vector<float> &scratch)
      : x_(x), n_(n), stretches_(stretches), plain_sum_(sum), scratch_(scratch) {
    const float r = task.filters.penalty;
    if (r == 1.0f) return;
    std::vector<std::uint64_t> met(n / 64 + 1);
    for (std::size_t i = 0; i < task.n_seen; ++i) {
      const std::int32_t id = task.seen[i];
      std::uint64_t &word = met[static_cast<std::size_t>(id) / 64];
      const std::uint64_t bit = std::uint64_t{1} << (id % 64);
      if (word & bit) continue;
      word |= bit;
      changed_.push_back({x[id] > 0 ? x[id] / r : x[id] * r, id});
    }
    is_changed_ = std::move(met);
  }

  std::size_t size() const { return n_; }

  // The first tokens in order, and whether there are no others.
  std::vector<Entry> lead(bool &whole) {
    std::vector<Entry> found = leading(x_, n_, stretches_.most);
    whole = found.size() < kLead;
    if (changed_.empty()) return found;
    const Entry last = found.empty() ? kAll : found.back();
    found.erase(std::remove_if(found.begin(), found.end(),
                               [this](const Entry &e) {
                                 const auto id = static_cast<std::size_t>(e.id);
                                 return (is_changed_[id / 64] >> (id % 64)) & 1;
                               }),
                found.end());
    for (const Entry &e : changed_)
      if (e.x > kAll.x && (whole || !before(last, e))) found.push_back(e);
    std::sort(found.begin(), found.end(), before);
    if (found.size() >= kLead / 8 || whole) return found;
    found = leading(row(), n_, Stretches(row(), n_).most);  // the penalty has put most of them further down
    whole = found.size() < kLead;
    return found;
  }

  // The first token of all: the largest logit, the lower id among equal ones.
  std::int32_t first() {
    if (!changed_.empty()) return first_changed();
    const auto &most = stretches_.most;
    const auto at = std::find(most.begin(), most.end(), stretches_.top) - most.begin();
    const std::size_t start = static_cast<std::size_t>(at) * kStretch % n_;
    const float *x = x_ + start;
    return static_cast<std::int32_t>(start) +
           first_of(x, std::min(kStretch, n_ - start), stretches_.top);
  }

  // The same under the penalty: the first of the unchanged and of the changed ones.
  std::int32_t first_changed() {
    bool all = false;
    const std::vector<Entry> found = lead(all);
    return found.empty() ? 0 : found.front().id;
  }

  // All logits, with the changed ones in place.
  const float *row() {
    if (changed_.empty()) return x_;
    if (scratch_.size() != n_ || !written_) {
      scratch_.assign(x_, x_ + n_);
      for (const Entry &e : changed_) scratch_[static_cast<std::size_t>(e.id)] = e.x;
      written_ = true;
    }
    return scratch_.data();
  }

  // The sum of weights over all tokens, and what it may be off, to be added and subtracted.
  double rough_total(float top, double rate, double &off) const {
    const double scale = std::exp((static_cast<double>(stretches_.top) - top) * rate);
    double sum = rate == 1.0 && plain_sum_ > 0
                     ? plain_sum_
                     : sum_weights(x_, n_, stretches_.top, static_cast<float>(rate));
    sum *= scale;
    off = kOff * sum;
    for (const Entry &e : changed_) {
      const double now = weight(e.x, top, rate);
      sum += now - std::exp((static_cast<double>(x_[e.id]) - top) * rate);
      off += kOff * now;
    }
    return sum;
  }

 private:
  const float *x_;
  std::size_t n_;
  const Stretches &stretches_;
  double plain_sum_;
  std::vector<float> &scratch_;
  std::vector<Entry> changed_;
  std::vector<std::uint64_t> is_changed_;
  bool written_ = false;
};

// A row in the order of its tokens, as far as it is needed.
class Ordered {
 public:
  explicit Ordered(View &view) : view_(view), n_(view.size()), lead_(view.lead(whole_)) {
    top_ = lead_.empty() ? kAll.x : lead_.front().x;
  }

  // The largest logit.
  float top() const { return top_; }

  // The k-th token.
  Entry at(std::int64_t k) const {
    const double count = static_cast<double>(k);
    return find(0.0, kAll, [count](double sum) { return sum >= count; });
  }

  // The last token whose weight at rate 1 is at least min_p: by bisection over the floats.
  Entry min_p_cut(double min_p) const {
    std::int32_t low = ordinal(-std::numeric_limits<float>::max()), high = ordinal(top_);
    if (weight(value(low), top_, 1.0) >= min_p) return kAll;
    while (static_cast<std::int64_t>(high) - low > 1) {
      const auto middle = static_cast<std::int32_t>((static_cast<std::int64_t>(low) + high) / 2);
      (weight(value(middle), top_, 1.0) >= min_p ? high : low) = middle;
    }
    return {value(high), kAll.id};
  }

  // The first token at which reached(sum of the weights so far, sum of all up to the cut) holds.
  // `reached` must not come to hold as the second grows.
  template <typename Reached>
  Entry border(double rate, Entry cut, const Reached &reached) const {
    if (!within_lead(cut) && cut.x == kAll.x) {
      double off = 0.0;
      const double rough = view_.rough_total(top_, rate, off);
      const std::size_t one = in_lead(rate, rough - off, reached);
      if (one < lead_.size() && one == in_lead(rate, rough + off, reached)) return lead_[one];
    }
    const double all = total(rate, cut);
    return find(rate, cut, [&](double sum) { return reached(sum, all); });
  }

 private:
  // Tokens to look through: logits, and their ids unless those are 0, 1, 2 …
  struct Source {
    const float *x;
    const std::int32_t *ids;
    std::size_t n;
    std::int32_t id(std::size_t i) const { return ids ? ids[i] : static_cast<std::int32_t>(i); }
  };

  // The stretch of a source that is looked at: after one token, up to another, logits in between.
  struct Stretch {
    Entry after, cut;
    float low, high;
    bool holds(float x, std::int32_t id) const {
      return x > kAll.x && before(after, {x, id}) && !before(cut, {x, id});
    }
  };

  // Bins of equal width from `high` down. (high - x) * scale never falls as x falls, so bins keep
  // the order of tokens.
  struct Bins {
    float high, scale;
    int of(float x) const {
      const float at = (high - x) * scale;
      return at < static_cast<float>(kBins - 1) ? static_cast<int>(at) : kBins - 1;
    }
  };

  // Floats as integers of the same order.
  static std::int32_t ordinal(float value) {
    std::int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? std::numeric_limits<std::int32_t>::min() - bits : bits;
  }
  static float value(std::int32_t ordinal) {
    const std::int32_t bits =
        ordinal < 0 ? std::numeric_limits<std::int32_t>::min() - ordinal : ordinal;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  }

  bool within_lead(Entry cut) const { return whole_ || !before(lead_.back(), cut); }

  // The place in lead_ of the border, if the sum of all were this; its size if it is not there.
  template <typename Reached>
  std::size_t in_lead(double rate, double all, const Reached &reached) const {
    double sum = 0.0;
    for (std::size_t i = 0; i < lead_.size(); ++i) {
      sum += weight(lead_[i].x, top_, rate);
      if (reached(sum, all)) return i;
    }
    return lead_.size();
  }

  // The sum of weights up to the cut.
  double total(double rate, Entry cut) const {
    double sum[kWide] = {};
    if (within_lead(cut)) {
      for (const Entry &e : lead_) {
        if (before(cut, e)) break;
        sum[0] += weight(e.x, top_, rate);
      }
      return sum[0];
    }
    const float *x = view_.row();
    std::size_t i = 0;
    for (; i + kWide <= n_; i += kWide)
      for (int l = 0; l < kWide; ++l) {
        const double w = weight(x[i + l], top_, rate);
        sum[l] += x[i + l] > cut.x ? w : 0.0;
      }
    for (; i < n_; ++i) sum[0] += x[i] > cut.x ? weight(x[i], top_, rate) : 0.0;
    double all = 0.0;
    for (double s : sum) all += s;
    if (cut.x == kAll.x) return all;
    const std::size_t end = std::min(n_, static_cast<std::size_t>(cut.id) + 1);
    const auto equal = std::count(x, x + end, cut.x);
    return all + static_cast<double>(equal) * weight(cut.x, top_, rate);
  }

  // The first token at which reached(sum of the weights so far) holds; the last one up to the cut
  // where none does, by rounding.
  template <typename Reached>
  Entry find(double rate, Entry cut, const Reached &reached) const {
    double sum = 0.0;
    Entry last = lead_.front();
    for (const Entry &e : lead_) {
      if (before(cut, e)) return last;
      last = e;
      sum += weight(e.x, top_, rate);
      if (reached(sum)) return e;
    }
    return whole_ ? last : beyond(last, cut, rate, sum, reached);
  }

  // Goes on after the last of lead_, whose sum is `sum`.
  template <typename Reached>
  Entry beyond(Entry last, Entry cut, double rate, double sum, const Reached &reached) const {
    Source from{view_.row(), nullptr, n_};
    Stretch stretch{last, cut, least(from.x, n_), last.x};
    stretch.low = std::max(stretch.low, cut.x);
    std::vector<float> xs;
    std::vector<std::int32_t> ids;
    std::size_t before_size = n_ + 1;
    // Each round looks into one bin of the last; where a round tells nothing apart, sorting does.
    while (from.n > kSorted && from.n < before_size && stretch.high > stretch.low) {
      const Bins bins{stretch.high, static_cast<float>(kBins) / (stretch.high - stretch.low)};
      if (!std::isfinite(bins.scale)) break;
      std::vector<double> sums(kBins + 1);
      std::vector<std::int32_t> counts(kBins + 1);
      weigh(from, stretch, rate, bins, sums, counts);
      int chosen = -1;
      for (int b = 0; b < kBins; ++b) {
        if (counts[b] == 0) continue;
        if (chosen >= 0) sum += sums[chosen];
        chosen = b;
        if (reached(sum + sums[b])) break;
      }
      if (chosen < 0) return last;
      std::vector<float> next_x;
      std::vector<std::int32_t> next_ids;
      // Limits that are wide enough whatever the rounding; `of` decides.
      const float width = 1.0f / bins.scale, top = bins.high - static_cast<float>(chosen) * width;
      Stretch near = stretch;
      near.high = chosen == 0 ? stretch.high : top + width;
      near.low = chosen == kBins - 1 ? stretch.low : top - 2.0f * width;
      each(from, near, [&](Entry e) {
        if (bins.of(e.x) != chosen) return;
        next_x.push_back(e.x);
        next_ids.push_back(e.id);
      });
      before_size = from.n;
      xs.swap(next_x);
      ids.swap(next_ids);
      from = {xs.data(), ids.data(), xs.size()};
      stretch.low = *std::min_element(xs.begin(), xs.end());
      stretch.high = *std::max_element(xs.begin(), xs.end());
    }
    std::vector<Entry> left;
    each(from, stretch, [&](Entry e) { left.push_back(e); });
    std::stable_sort(left.begin(), left.end(), before);
    for (const Entry &e : left) {
      last = e;
      sum += weight(e.x, top_, rate);
      if (reached(sum)) break;
    }
    return last;
  }

  // Takes the tokens of a stretch, skipping lanes whose logits all lie outside.
  template <typename Take>
  static void each(Source from, Stretch stretch, const Take &take) {
    for (std::size_t start = 0; start < from.n; start += kLanes) {
      const std::size_t end = std::min(from.n, start + kLanes);
      int any = 0;
      for (std::size_t i = start; i < end; ++i)
        any |= (from.x[i] >= stretch.low) & (from.x[i] <= stretch.high);
      if (!any) continue;
      for (std::size_t i = start; i < end; ++i)
        if (stretch.holds(from.x[i], from.id(i))) take({from.x[i], from.id(i)});
    }
  }

  // Sums the weights of each bin; what lies outside goes into one more, which nobody reads.
  void weigh(Source from, Stretch stretch, double rate, Bins bins, std::vector<double> &sums,
             std::vector<std::int32_t> &counts) const {
    double weights[kBlock];
    std::int32_t places[kBlock];
    for (std::size_t start = 0; start < from.n; start += kBlock) {
      const std::size_t size = std::min(kBlock, from.n - start);
      const float *x = from.x + start;
      for (std::size_t i = 0; i < size; ++i) weights[i] = weight(x[i], top_, rate);
      for (std::size_t i = 0; i < size; ++i)
        places[i] = stretch.holds(x[i], from.id(start + i)) ? bins.of(x[i]) : kBins;
      for (std::size_t i = 0; i < size; ++i) {
        sums[places[i]] += weights[i];
        counts[places[i]] += 1;
      }
    }
  }

  View &view_;
  std::size_t n_;
  bool whole_ = false;  // lead_ are all the possible tokens
  std::vector<Entry> lead_;
  float top_ = 0.0f;
};

inline std::int32_t drawn(View &view, const Filters &f, double uniform) {
  const Ordered tokens(view);
  if (!std::isfinite(tokens.top())) return view.first();
  Entry cut = kAll;
  const auto narrow = [&](Entry other) { cut = before(other, cut) ? other : cut; };
  if (f.top_k > 0 && static_cast<std::size_t>(f.top_k) < view.size()) narrow(tokens.at(f.top_k));
  const Entry kept = cut;  // top-p looks at the mass of these, min-p or not
  if (f.min_p > 0.0) narrow(tokens.min_p_cut(f.min_p));
  if (f.top_p < 1.0)
    narrow(tokens.border(1.0, kept, [&](double sum, double all) { return sum / all >= f.top_p; }));
  const double rate = std::min(1.0 / f.temperature, 1e300);
  return tokens
      .border(rate, cut, [&](double sum, double all) { return sum > uniform * all; })
      .id;
}

Draw draw(const DrawTask &task, std::size_t n, std::vector<float> &scratch) {
  const Stretches row(task.row, n);
  if (row.nan || !std::isfinite(row.top))
    return {0, kRowNotFinite, std::numeric_limits<double>::quiet_NaN()};
  const double sum = sum_weights(task.row, n, row.top, 1.0f);
  const auto choose = [&](const Stretches &stretches, double known) {
    View view(task.view, n, stretches, known, task, scratch);
    return task.filters.temperature == 0.0 ? view.first()
                                           : drawn(view, task.filters, task.uniform);
  };
  const std::int32_t token =
      task.view == task.row ? choose(row, sum) : choose(Stretches(task.view, n), 0.0);
  const double lse = static_cast<double>(row.top) + std::log(sum);
  return {token, kRowOk, static_cast<double>(task.row[token]) - lse};
}

}  // namespace URIAL_LEVEL
}  // namespace urial

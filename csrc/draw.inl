// Included after row_scores.inl into a namespace for each instruction level. Same style: fixed lanes
// that the compiler vectorises, no intrinsics. Weights are double throughout, so that the token
// drawn is the definition's but where a sum lies within rounding of a border.
//
// Nothing sorts the vocabulary. Tokens have an order: larger logits first, among equal ones the
// lower id. Every filter keeps a beginning of that order, so a filter is known by its last token,
// the cut. A hundred or so leading tokens are found and sorted, then some hundreds more where they
// are needed, and mostly all borders lie among them. Else thousands are gathered and halved by
// selection; and where those do not hold the border, sums over bins of logits say where it lies.
//
// One pass over a row gives the largest logit of each stretch, by which tokens are found, and the sum
// of all weights in single precision. Where a border is the same at both ends of what that sum, or
// one derived from it, may be off, it is the border; else the sum is taken in double. The penalty
// changes few logits: they are kept beside the row, which is written anew only for sums in double.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>

#include "draw.h"

namespace urial {
namespace URIAL_LEVEL {

constexpr std::size_t kLead = 256;     // leading tokens that are sorted at most
constexpr std::size_t kStretch = 256;  // tokens whose largest logit is kept from the first pass
constexpr std::size_t kLevels[] = {64, 256, 768};  // stretches that reach the logits gathered down to
constexpr std::size_t kLast = std::size(kLevels) - 1;
constexpr std::size_t kMore = 2048;    // tokens that the lead is extended by at most
constexpr std::size_t kAhead = 4;      // stretches that are fetched ahead
constexpr std::size_t kLine = 16;      // logits in a line of a processor's cache
constexpr std::size_t kSorted = 64;    // tokens that are sorted rather than halved again
constexpr int kBins = 4096;
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

// 2^x for x <= 0 within 3e-7 of itself, in a third fewer steps than exp_nonpositive; below 2^-126,
// which is nothing beside a largest weight of 1, it stays there. Minimax polynomial of degree 5 on
// [-1/2, 1/2]; n is added to the exponent's bits.
inline float exp2_rough(float x) {
  x = x < -126.0f ? -126.0f : x;
  const float shifter = 12582912.0f;  // 1.5 * 2^23
  const float z = x + shifter;
  const float f = x - (z - shifter);
  float p = 1.33389467e-3f;
  p = p * f + 9.61833261e-3f;
  p = p * f + 5.55036031e-2f;
  p = p * f + 2.40226522e-1f;
  p = p * f + 6.93147182e-1f;
  p = p * f + 1.0f;
  std::uint32_t n, bits;
  std::memcpy(&n, &z, sizeof n);
  std::memcpy(&bits, &p, sizeof bits);
  bits += n << 23;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

// A sum of exp((x - top) * rate) whose top rises as logits come, in single precision: off by less
// than kOff of itself.
constexpr double kOff = 1e-5;
class RoughSum {
 public:
  explicit RoughSum(float rate) : rate_(rate), in_bits_(rate * 1.44269504f) {}

  // The stretch's largest logit is `most`, and `top` that of all so far.
  void add(const float *x, std::size_t n, float most, float top) {
    if (!(most > -std::numeric_limits<float>::infinity())) return;
    if (top != top_) {
      if (total_ > 0.0) total_ *= std::exp((static_cast<double>(top_) - top) * rate_);
      top_ = top;
    }
    float sum[kLanes] = {};
    const float in_bits = in_bits_;
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (int l = 0; l < kLanes; ++l) sum[l] += exp2_rough((x[i + l] - top) * in_bits);
    for (; i < n; ++i) sum[0] += exp2_rough((x[i] - top) * in_bits);
    for (int half = kLanes / 2; half; half /= 2)
      for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
    total_ += static_cast<double>(sum[0]);
  }

  double total() const { return total_; }

 private:
  float rate_, in_bits_, top_ = 0.0f;
  double total_ = 0.0;
};

// What one pass over a row finds: the largest logit of each stretch and of all, whether there is a
// NaN, and the sum of exp(x - top).
struct Stretches {
  std::vector<float> most;
  bool nan = false;
  float top = -std::numeric_limits<float>::infinity();
  double sum;

  Stretches(const float *x, std::size_t n) : most((n + kStretch - 1) / kStretch) {
    std::int32_t bad[kLanes] = {};
    RoughSum rough(1.0f);
    for (std::size_t s = 0; s < most.size(); ++s) {
      const float *from = x + s * kStretch;
      const std::size_t size = std::min(kStretch, n - s * kStretch);
      if (s + kAhead < most.size())  // a row that was just decoded is in no near cache
        for (std::size_t i = 0; i < kStretch; i += kLine)
          __builtin_prefetch(from + kAhead * kStretch + i);
      most[s] = largest(from, size, bad);
      top = most[s] > top ? most[s] : top;
      rough.add(from, size, most[s], top);
    }
    for (std::int32_t b : bad) nan |= b != 0;
    sum = rough.total();
  }
};

// Calls take(i) for each logit from `low` to `high`, in the order of ids. A byte says of each whether
// it is one, and eight of them are looked at together: nearly all are not.
template <typename Take>
inline void each_within(const float *x, std::size_t n, float low, float high, const Take &take) {
  std::uint8_t hit[kStretch] = {};
  for (std::size_t start = 0; start < n; start += kStretch) {
    const std::size_t size = std::min(kStretch, n - start);
    const float *from = x + start;
    for (std::size_t i = 0; i < size; ++i) hit[i] = (from[i] >= low) & (from[i] <= high);
    for (std::size_t i = size; i < kStretch; ++i) hit[i] = 0;
    for (std::size_t group = 0; group < kStretch; group += sizeof(std::uint64_t)) {
      std::uint64_t any;
      std::memcpy(&any, hit + group, sizeof any);
      if (!any) continue;
      for (std::size_t i = group; i < group + sizeof any; ++i)
        if (hit[i]) take(start + i);
    }
  }
}

// What a token is drawn from: logits, and other values for a few of them under the penalty.
class View {
 public:
  View(const float *x, std::size_t n, const Stretches &stretches, const DrawTask &task,
       std::vector<float> &scratch)
      : x_(x), n_(n), stretches_(stretches), scratch_(scratch) {
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

  // The first tokens in order, at most kLead of them, and whether there are no others.
  std::vector<Entry> lead(bool &whole) {
    std::vector<Entry> found;
    float low = 0.0f;
    for (std::size_t l = 0; found.empty(); ++l) {
      low = level(l);
      found = first_down_to(low);
      if (!(low > kAll.x)) break;
    }
    whole = !(low > kAll.x) && found.size() < kLead;
    std::sort(found.begin(), found.end(), before);
    return found;
  }

  // A logit that kLevels[l] stretches reach, so at least so many tokens of the row; -infinity where
  // there are no more stretches than that.
  float level(std::size_t l) {
    if (l >= std::size(kLevels) || kLevels[l] >= stretches_.most.size()) return kAll.x;
    while (levels_.size() <= l) {
      if (levels_.empty()) ordered_ = stretches_.most;
      const std::size_t next = levels_.size(), before = next ? kLevels[next - 1] : 0;
      const auto at = ordered_.begin() + static_cast<std::ptrdiff_t>(kLevels[next] - 1);
      std::nth_element(ordered_.begin() + static_cast<std::ptrdiff_t>(before), at, ordered_.end(),
                       std::greater<float>());
      levels_.push_back(*at);
    }
    return levels_[l];
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
    double sum = rate == 1.0 ? stretches_.sum : rough_sum(static_cast<float>(rate));
    sum *= std::exp((static_cast<double>(stretches_.top) - top) * rate);
    off = kOff * sum;
    for (const Entry &e : changed_) {
      const double now = weight(e.x, top, rate);
      sum += now - std::exp((static_cast<double>(x_[e.id]) - top) * rate);
      off += kOff * now;
    }
    return sum;
  }

  // Appends the tokens after one, up to another, whose logits are `low` or more.
  void gather(Entry after, Entry cut, float low, std::vector<Entry> &found) const {
    const auto take = [&](Entry e) {
      if (e.x >= low && e.x > kAll.x && before(after, e) && !before(cut, e)) found.push_back(e);
    };
    each_unchanged(low, after.x, take);
    for (const Entry &e : changed_) take(e);
  }

 private:
  bool is_changed(std::int32_t id) const {
    const auto at = static_cast<std::size_t>(id);
    return (is_changed_[at / 64] >> (at % 64)) & 1;
  }

  // Calls take(e) for each token that the penalty left as it is, with a logit from `low` to `high`.
  template <typename Take>
  void each_unchanged(float low, float high, const Take &take) const {
    for (std::size_t s = 0; s < stretches_.most.size(); ++s) {
      if (!(stretches_.most[s] >= low)) continue;
      const std::size_t start = s * kStretch;
      each_within(x_ + start, std::min(kStretch, n_ - start), low, high, [&](std::size_t i) {
        const auto id = static_cast<std::int32_t>(start + i);
        if (changed_.empty() || !is_changed(id)) take(Entry{x_[id], id});
      });
    }
  }

  // The tokens that reach a logit: all of them, or the first kLead where they are more.
  std::vector<Entry> first_down_to(float low) const {
    std::vector<Entry> found;
    found.reserve(2 * kLead);
    Entry last = kAll;
    const auto keep_first = [&] {
      if (found.size() <= kLead) return;
      std::nth_element(found.begin(), found.begin() + (kLead - 1), found.end(), before);
      found.resize(kLead);
      last = found.back();
    };
    const auto take = [&](Entry e) {
      if (!(e.x >= low) || !(e.x > kAll.x) || before(last, e)) return;
      found.push_back(e);
      if (found.size() >= 4 * kLead) keep_first();
    };
    each_unchanged(low, std::numeric_limits<float>::infinity(), take);
    for (const Entry &e : changed_) take(e);
    keep_first();
    return found;
  }

  double rough_sum(float rate) const {
    RoughSum rough(rate);
    for (std::size_t s = 0; s < stretches_.most.size(); ++s)
      rough.add(x_ + s * kStretch, std::min(kStretch, n_ - s * kStretch), stretches_.most[s],
                stretches_.top);
    return rough.total();
  }

  const float *x_;
  std::size_t n_;
  const Stretches &stretches_;
  std::vector<float> ordered_, levels_;  // the largest logits of stretches; what `level` found
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

  // The first k tokens, or all where there are fewer.
  std::vector<Entry> first(std::size_t k) const {
    if (lead_.size() < k) extend();
    std::vector<Entry> found(lead_);
    if (found.size() < k && !whole_) {
      const Entry cut = at(static_cast<std::int64_t>(k));
      view_.gather(lead_.back(), cut, cut.x, found);
      std::sort(found.begin(), found.end(), before);
    }
    found.resize(std::min(k, found.size()));
    return found;
  }

  // The k-th token.
  Entry at(std::int64_t k) const {
    const double count = static_cast<double>(k);
    return find(0.0, kAll, [count](double sum) { return sum >= count; }).entry;
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
    if (!whole_ && cut.x == kAll.x) {
      // The least and the most that the sum of all may be: at first from the plain sum.
      for (const bool derived : {true, false}) {
        if (derived && rate < 1.0) continue;
        double off = 0.0;
        const double rough = view_.rough_total(top_, derived ? 1.0 : rate, off);
        double low = rough - off, high = rough + off;
        if (derived && rate > 1.0) from_plain(rate, low, high);
        const Place at = find(rate, cut, [&](double sum) { return reached(sum, low); });
        if (at.reached && reached(at.sum, high)) return at.entry;
        if (rate == 1.0) break;
      }
    }
    const double all = total(rate, cut);
    return find(rate, cut, [&](double sum) { return reached(sum, all); }).entry;
  }

 private:
  // A token, the sum of the weights up to it, and whether that is enough.
  struct Place {
    Entry entry;
    double sum;
    bool reached;
  };

  // Bounds of the sum at a rate above 1 from those of the plain one: after the last leading token, at a
  // distance d from the top, a weight is at most exp(d (rate - 1)) of the plain one.
  void from_plain(double rate, double &low, double &high) const {
    double plain = 0.0, at_rate = 0.0;
    for (const Entry &e : lead_) {
      plain += weight(e.x, top_, 1.0);
      at_rate += weight(e.x, top_, rate);
    }
    const double rest = std::max(0.0, high - plain);
    low = at_rate;
    high = (at_rate + rest * weight(lead_.back().x, top_, rate - 1.0)) * (1.0 + kOff);
  }

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
    if (cut.x > kAll.x && cut.x >= view_.level(kLast)) {  // after some thousands
      std::vector<Entry> more;
      view_.gather(lead_.back(), cut, cut.x, more);
      for (const Entry &e : lead_) sum[0] += weight(e.x, top_, rate);
      for (const Entry &e : more) sum[0] += weight(e.x, top_, rate);
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
  Place find(double rate, Entry cut, const Reached &reached) const {
    Place at{lead_.front(), 0.0, false};
    for (std::size_t i = 0; i < lead_.size() || extend(); ++i) {
      const Entry e = lead_[i];
      if (before(cut, e)) return at;
      at = {e, at.sum + weight(e.x, top_, rate), false};
      if ((at.reached = reached(at.sum))) return at;
    }
    if (whole_) return at;
    const float low = std::max(cut.x, view_.level(kLast));
    if (low > kAll.x) {
      std::vector<Entry> more;
      view_.gather(at.entry, cut, low, more);
      if (!more.empty()) at = among(more, at, rate, reached);
      if (at.reached || low == cut.x) return at;
    }
    return further(at, cut, rate, reached);
  }

  // Sorts the next tokens into the lead, once, where there are some hundreds; whether it did.
  bool extend() const {
    if (whole_ || extended_) return false;
    extended_ = true;
    const float low = view_.level(1);
    if (!(low > kAll.x) || low > lead_.back().x) return false;
    std::vector<Entry> more;
    view_.gather(lead_.back(), kAll, low, more);
    if (more.empty() || more.size() > kMore) return false;
    std::sort(more.begin(), more.end(), before);
    lead_.insert(lead_.end(), more.begin(), more.end());
    return true;
  }

  // The same among tokens in any order, which come after `at` and before all others. They are halved
  // by selection, and the half that holds the border again.
  template <typename Reached>
  Place among(std::vector<Entry> &tokens, Place at, double rate, const Reached &reached) const {
    auto begin = tokens.begin(), end = tokens.end();
    while (end - begin > static_cast<std::ptrdiff_t>(kSorted)) {
      const auto middle = begin + (end - begin) / 2;
      std::nth_element(begin, middle, end, before);
      double sum = at.sum;
      for (auto e = begin; e != middle; ++e) sum += weight(e->x, top_, rate);
      if (reached(sum)) {
        end = middle;
      } else {
        begin = middle;
        at.sum = sum;
      }
    }
    std::sort(begin, end, before);
    for (auto e = begin; e != end; ++e) {
      at = {*e, at.sum + weight(e->x, top_, rate), false};
      if ((at.reached = reached(at.sum))) return at;
    }
    return at;
  }

  // The same among all that come after `at`: the sums of bins of equal width say in which bin the
  // border lies.
  template <typename Reached>
  Place further(Place at, Entry cut, double rate, const Reached &reached) const {
    const float *x = view_.row(), high = at.entry.x;
    float low = std::max(least(x, n_), cut.x);
    // What weighs nothing is in the last bin.
    if (rate > 0.0) low = std::max(low, top_ - static_cast<float>(708.0 / rate));
    const float scale = static_cast<float>(kBins) / (high - low);
    std::vector<Entry> rest;
    if (!(scale > 0.0f) || !std::isfinite(scale)) {
      view_.gather(at.entry, cut, kAll.x, rest);
      return rest.empty() ? at : among(rest, at, rate, reached);
    }
    const Bins bins{high, scale};
    std::vector<double> sums(kBins + 1);
    weigh(x, at.entry, cut, bins, rate, sums.data());
    int chosen = 0;
    double sum = at.sum;
    while (chosen < kBins - 1 && !reached(sum + sums[chosen])) sum += sums[chosen++];
    // Limits that are wide enough whatever the rounding; `of` decides.
    const float width = 1.0f / scale, upper = high - static_cast<float>(chosen) * width;
    const float from = chosen == kBins - 1 ? kAll.x : upper - 2.0f * width;
    each_within(x, n_, from, std::min(high, upper + width), [&](std::size_t i) {
      const Entry e{x[i], static_cast<std::int32_t>(i)};
      if (e.x > kAll.x && before(at.entry, e) && !before(cut, e) && bins.of(e.x) == chosen)
        rest.push_back(e);
    });
    at.sum = sum;
    return rest.empty() ? at : among(rest, at, rate, reached);
  }

  // Adds the weights of the tokens after one, up to another, to their bins; what lies outside goes
  // into one more, which nobody reads.
  void weigh(const float *x, Entry after, Entry cut, Bins bins, double rate, double *sums) const {
    double weights[kBlock];
    std::int32_t places[kBlock];
    for (std::size_t start = 0; start < n_; start += kBlock) {
      const std::size_t size = std::min(kBlock, n_ - start);
      const float *from = x + start;
      const auto first = static_cast<std::int32_t>(start);
      for (std::size_t i = 0; i < size; ++i) weights[i] = weight(from[i], top_, rate);
      for (std::size_t i = 0; i < size; ++i) {
        const Entry e{from[i], first + static_cast<std::int32_t>(i)};
        const bool inside = (e.x > kAll.x) & before(after, e) & !before(cut, e);
        places[i] = inside ? bins.of(e.x) : kBins;
      }
      for (std::size_t i = 0; i < size; ++i) sums[places[i]] += weights[i];
    }
  }

  View &view_;
  std::size_t n_;
  bool whole_ = false;  // lead_ are all the possible tokens
  mutable bool extended_ = false;
  mutable std::vector<Entry> lead_;
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
  const auto choose = [&](const Stretches &stretches) {
    View view(task.view, n, stretches, task, scratch);
    return task.filters.temperature == 0.0 ? view.first()
                                           : drawn(view, task.filters, task.uniform);
  };
  const std::int32_t token = task.view == task.row ? choose(row) : choose(Stretches(task.view, n));
  const double lse = static_cast<double>(row.top) + std::log(row.sum);
  if (task.top) {
    DrawTask plain = task;
    plain.filters.penalty = 1.0f;
    View view(task.row, n, row, plain, scratch);
    const std::vector<Entry> first = Ordered(view).first(task.top);
    for (std::size_t i = 0; i < task.top; ++i) {
      const bool there = i < first.size();
      task.top_ids[i] = there ? first[i].id : -1;
      task.top_logprobs[i] = there ? static_cast<double>(first[i].x) - lse
                                   : -std::numeric_limits<double>::infinity();
    }
  }
  return {token, kRowOk, static_cast<double>(task.row[token]) - lse};
}

}  // namespace URIAL_LEVEL
}  // namespace urial

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

#include "draw_scan.inl"
#include "draw_view.inl"

namespace urial {
namespace URIAL_LEVEL {

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

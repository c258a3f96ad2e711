// What a token is drawn from: a row's logits with those that the penalty changes, and how its tokens
// are found without sorting them. Included by draw.inl.

namespace urial {
namespace URIAL_LEVEL {

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

}  // namespace URIAL_LEVEL
}  // namespace urial

// One pass over a row of logits: the largest of each stretch, and the sum of all weights. Included by
// draw.inl, which says what for.

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

// The largest of lanes, by halves. Loops of fixed length, which the compiler unrolls.
inline float largest_lane(const float *lanes) {
  static_assert(kLanes == 32);
  float a[16], b[8];
  for (int l = 0; l < 16; ++l) a[l] = lanes[l + 16] > lanes[l] ? lanes[l + 16] : lanes[l];
  for (int l = 0; l < 8; ++l) b[l] = a[l + 8] > a[l] ? a[l + 8] : a[l];
  float most = b[0];
  for (int l = 1; l < 8; ++l) most = b[l] > most ? b[l] : most;
  return most;
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

// 2^x for x <= 0 within 2e-7 of itself, in a third fewer steps than exp_nonpositive; below 2^-126,
// which is nothing beside a largest weight of 1, it stays there. Polynomial of degree 5 on
// [-1/2, 1/2], fitted to the least largest relative error, 1e-7, with 1 at 0; n is added to the
// exponent's bits.
inline float exp2_rough(float x) {
  x = x < -126.0f ? -126.0f : x;
  const float shifter = 12582912.0f;  // 1.5 * 2^23
  const float z = x + shifter;
  const float f = x - (z - shifter);
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

}  // namespace URIAL_LEVEL
}  // namespace urial

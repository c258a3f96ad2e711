// The source of the kernel. Each kernels_*.cpp includes it into a namespace of its own and is
// compiled for another instruction level. Loops run over fixed lanes so that the compiler vectorises
// them without -ffast-math; no intrinsics, so ARM gets the same code through NEON.

#include <cmath>
#include <cstring>
#include <limits>

#include "row_scores.h"

namespace urial {
namespace URIAL_LEVEL {

constexpr int kLanes = 32;        // independent accumulators: two AVX-512 or four AVX2 registers
constexpr std::size_t kChunk = 2048;  // floats summed in single precision before going to double

// exp(x) for x <= 0, relative error below 2e-7; x < -87 gives 0. Cephes-style range reduction:
// x = n ln2 + r, |r| <= ln2/2, a degree-6 polynomial in r, and 2^n from the exponent bits.
inline float exp_nonpositive(float x) {
  const bool tiny = x < -87.0f;
  x = tiny ? 0.0f : x;
  // Adding 1.5 * 2^23 leaves round-to-nearest(x / ln2) in the low mantissa bits.
  const float shifter = 12582912.0f;
  const float z = x * 1.44269504088896341f + shifter;
  const float n = z - shifter;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::int32_t exponent = (static_cast<std::int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return tiny ? 0.0f : p * scale;
}

struct Scan {
  float max;
  std::int64_t above;     // logits greater than the target's
  std::int64_t equal;     // logits equal to the target's, at lower ids
  std::int64_t nan;
};

inline Scan scan(const float *row, std::size_t n, std::size_t target) {
  const float t = row[target];
  float max[kLanes];
  std::int32_t above[kLanes] = {}, equal[kLanes] = {}, nan[kLanes] = {};
  for (int l = 0; l < kLanes; ++l) max[l] = -std::numeric_limits<float>::infinity();
  const std::size_t whole = n / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    // Equal logits count only below the target, a border that may fall inside these lanes.
    const std::int32_t below = i < target ? static_cast<std::int32_t>(target - i) : 0;
    for (int l = 0; l < kLanes; ++l) {
      const float x = row[i + l];
      max[l] = x > max[l] ? x : max[l];
      above[l] += x > t;
      equal[l] += (x == t) & (l < below);
      nan[l] += x != x;
    }
  }
  Scan s{-std::numeric_limits<float>::infinity(), 0, 0, 0};
  for (int l = 0; l < kLanes; ++l) {
    s.max = max[l] > s.max ? max[l] : s.max;
    s.above += above[l];
    s.equal += equal[l];
    s.nan += nan[l];
  }
  for (std::size_t i = whole; i < n; ++i) {
    const float x = row[i];
    s.max = x > s.max ? x : s.max;
    s.above += x > t;
    s.equal += (x == t) && i < target;
    s.nan += x != x;
  }
  return s;
}

inline double sum_exp(const float *row, std::size_t n, float max) {
  double total = 0.0;
  for (std::size_t start = 0; start < n; start += kChunk) {
    const std::size_t end = start + kChunk < n ? start + kChunk : n;
    float sum[kLanes] = {};
    std::size_t i = start;
    for (; i + kLanes <= end; i += kLanes)
      for (int l = 0; l < kLanes; ++l) sum[l] += exp_nonpositive(row[i + l] - max);
    for (; i < end; ++i) sum[0] += exp_nonpositive(row[i] - max);
    for (int l = 0; l < kLanes; ++l) total += sum[l];
  }
  return total;
}

RowScore row_score(const float *row, std::size_t n_vocab, std::size_t target) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Scan s = scan(row, n_vocab, target);
  if (s.nan != 0 || !std::isfinite(s.max)) return {nan, nan, 0, kRowNotFinite};
  const double lse = static_cast<double>(s.max) + std::log(sum_exp(row, n_vocab, s.max));
  return {lse, static_cast<double>(row[target]) - lse,
          static_cast<std::int32_t>(1 + s.above + s.equal), kRowOk};
}

}  // namespace URIAL_LEVEL
}  // namespace urial

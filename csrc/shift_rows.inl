// Included after row_scores.inl into a namespace for each instruction level. Same style: fixed
// lanes that the compiler vectorises, no intrinsics, single precision inside a chunk, double across.

#include "shift_rows.h"

namespace urial {
namespace URIAL_LEVEL {

// The k largest logits, best first; among equal ones the lower id.
struct Leaders {
  int k, n = 0;
  float x[kMaxTop];
  std::int32_t id[kMaxTop];

  explicit Leaders(int k) : k(k) {}

  float threshold() const { return n < k ? -std::numeric_limits<float>::infinity() : x[n - 1]; }

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

inline Leaders leaders(const float *row, std::size_t n, int k) {
  Leaders best(k);
  if (k == 0) return best;
  const std::size_t whole = n / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    const float threshold = best.threshold();
    int any = 0;
    for (int l = 0; l < kLanes; ++l) any |= row[i + l] > threshold;
    if (any)
      for (int l = 0; l < kLanes; ++l) best.offer(row[i + l], i + l);
  }
  for (std::size_t i = whole; i < n; ++i) best.offer(row[i], i);
  return best;
}

// One model's side: rank, log-sum-exp in two parts, entropy.
struct Side {
  bool finite;
  Scan scan;
  double log_sum;  // ln sum_v exp(logit_v - max)
  double entropy;

  double log_sum_exp() const { return scan.max + log_sum; }
};

inline Side side(const float *row, std::size_t n, std::size_t target) {
  Side s{false, scan(row, n, target), 0.0, 0.0};
  s.finite = s.scan.nan == 0 && std::isfinite(s.scan.max);
  if (!s.finite) return s;
  // H = ln S + (1/S) sum e (max - x) with e = exp(x - max), S = sum e: no term is negative.
  double total = 0.0, moment = 0.0;
  for (std::size_t start = 0; start < n; start += kChunk) {
    const std::size_t end = start + kChunk < n ? start + kChunk : n;
    float sum[kLanes] = {}, below[kLanes] = {};
    std::size_t i = start;
    for (; i + kLanes <= end; i += kLanes)
      for (int l = 0; l < kLanes; ++l) {
        const float d = row[i + l] - s.scan.max;
        const float e = exp_nonpositive(d);
        sum[l] += e;
        below[l] -= e * (d < -100.0f ? -100.0f : d);  // e is 0 there; keeps 0 * inf out
      }
    for (; i < end; ++i) {
      const float d = row[i] - s.scan.max;
      const float e = exp_nonpositive(d);
      sum[0] += e;
      below[0] -= e * (d < -100.0f ? -100.0f : d);
    }
    for (int l = 0; l < kLanes; ++l) {
      total += sum[l];
      moment += below[l];
    }
  }
  s.log_sum = std::log(total);
  s.entropy = s.log_sum + moment / total;
  return s;
}

// One token's parts of the three divergences. Of the two probabilities p is the larger and p u the
// smaller, u = exp(-y) with y = |ln b - ln a|. Terms that are never negative, written so that close
// distributions do not cancel (KL as sum of p ln(p/q) loses all digits in single precision):
//   larger  = y - 1 + u                         its part of KL(model with p || other), over p
//   smaller = 1 - u - u y                       its part of the other KL, over p
//   js      = (-u y + (1 + u)(ln 2 - ln(1 + u))) / 2
// Each adds a term, u - 1 or 1 - u, that vanishes in the sum since both distributions sum to 1; so
// an error of the normalisation comes in squared only.
struct Parts {
  float larger, smaller, js;
};

inline Parts parts(float y, float u) {
  // y < 1: by series in t = tanh(y/2) and q = y - 2t.
  const float y1 = y < 1.0f ? y : 1.0f;
  const float z = y1 * y1;
  float c = -5461.0f / 6227020800.0f;
  c = c * z + 691.0f / 79833600.0f;
  c = c * z - 31.0f / 362880.0f;
  c = c * z + 17.0f / 20160.0f;
  c = c * z - 1.0f / 120.0f;
  c = c * z + 1.0f / 12.0f;
  const float q = y1 * z * c;
  const float t = 0.5f * (y1 - q);
  const float v = t * t;
  float d = 1.0f / 9.0f;  // ln(1 - v) = -v - v^2 d
  d = d * v + 1.0f / 8.0f;
  d = d * v + 1.0f / 7.0f;
  d = d * v + 1.0f / 6.0f;
  d = d * v + 1.0f / 5.0f;
  d = d * v + 1.0f / 4.0f;
  d = d * v + 1.0f / 3.0f;
  d = d * v + 1.0f / 2.0f;
  const float half = 0.5f * (1.0f + u);
  const float near_larger = half * (t * y1 + q), near_smaller = half * (t * y1 - q);
  const float near_js = 0.5f * half * (v + t * q - v * v * d);
  // y >= 1: as the definitions read; ln(1 + u) = 2 artanh(r), r = u / (2 + u) <= 0.16.
  const float r = u / (2.0f + u);
  const float r2 = r * r;
  float a = 1.0f / 9.0f;
  a = a * r2 + 1.0f / 7.0f;
  a = a * r2 + 1.0f / 5.0f;
  a = a * r2 + 1.0f / 3.0f;
  a = a * r2 + 1.0f;
  const float uy = u * y;
  const float far_js = half * (0.69314718056f - 2.0f * r * a) - 0.5f * uy;
  const bool is_near = y < 1.0f;
  return {is_near ? near_larger : y - 1.0f + u, is_near ? near_smaller : 1.0f - u - uy,
          is_near ? near_js : far_js};
}

struct Divergences {
  double kl_base_aligned, kl_aligned_base, js;
};

// What the terms of a token need to know of the two rows.
struct Norms {
  float base_max, aligned_max;            // subtracted first, exactly as for the sums
  float base_log, aligned_log;            // then these, ln sum_v exp(logit_v - max)
  float shift_high, shift_low;            // lse(base) - lse(aligned), in two parts
};

// Sums over lanes; one for each model's tokens that the other cannot write.
struct Sums {
  float base_aligned[kLanes] = {}, aligned_base[kLanes] = {}, js[kLanes] = {};
  std::int32_t base_lacks[kLanes] = {}, aligned_lacks[kLanes] = {};
};

// Adds the terms of kLanes tokens.
[[gnu::noinline]] void add_terms(const float *base, const float *aligned, const Norms &norms, Sums &sums) {
  const float nothing = -std::numeric_limits<float>::infinity();
  float distance[kLanes], p[kLanes];  // |ln b - ln a|, and the larger of b and a
  std::int32_t base_larger[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const float x = base[l], y = aligned[l];
    const std::int32_t no_base = x == nothing, no_aligned = y == nothing;
    const float xb = no_base ? 0.0f : x, ya = no_aligned ? 0.0f : y;
    // x - y with its rounding error: the logits of the models may lie far apart.
    const float d = xb - ya;
    const float v = xb - d;
    const float error = (xb - (d + v)) + (v - ya);
    const float m = (d - norms.shift_high) + (error - norms.shift_low);  // ln b - ln a
    const float log_base = x - norms.base_max - norms.base_log;
    const float log_aligned = y - norms.aligned_max - norms.aligned_log;
    const float log_p = log_base > log_aligned ? log_base : log_aligned;
    p[l] = log_p > 0.0f ? 0.0f : log_p;  // by rounding
    base_larger[l] = log_base > log_aligned;
    distance[l] = no_base | no_aligned ? 100.0f : m < 0.0f ? -m : m;  // 100: as good as infinite
    sums.base_lacks[l] += no_base & (no_aligned ^ 1);
    sums.aligned_lacks[l] += no_aligned & (no_base ^ 1);
  }
  for (int l = 0; l < kLanes; ++l) {
    const float y = distance[l];
    const Parts g = parts(y, exp_nonpositive(y > 100.0f ? -100.0f : -y));
    const float weight = exp_nonpositive(p[l]);  // 0 where both are -inf
    const float larger = weight * g.larger, smaller = weight * g.smaller;
    sums.base_aligned[l] += base_larger[l] ? larger : smaller;
    sums.aligned_base[l] += base_larger[l] ? smaller : larger;
    sums.js[l] += weight * g.js;
  }
}

inline Divergences divergences(const float *base, const float *aligned, std::size_t n,
                               const Side &b, const Side &a) {
  const double shift = b.log_sum_exp() - a.log_sum_exp();
  const float high = static_cast<float>(shift);
  const Norms norms{b.scan.max, a.scan.max, static_cast<float>(b.log_sum),
                    static_cast<float>(a.log_sum), high, static_cast<float>(shift - high)};
  Divergences out{0.0, 0.0, 0.0};
  std::int64_t base_lacks = 0, aligned_lacks = 0;
  for (std::size_t start = 0; start < n; start += kChunk) {
    const std::size_t end = start + kChunk < n ? start + kChunk : n;
    Sums sums;
    std::size_t i = start;
    for (; i + kLanes <= end; i += kLanes) add_terms(base + i, aligned + i, norms, sums);
    if (i < end) {  // the last few, filled up with tokens that neither model can write
      float rest_base[kLanes], rest_aligned[kLanes];
      for (std::size_t l = 0; l < kLanes; ++l) {
        const float nothing = -std::numeric_limits<float>::infinity();
        rest_base[l] = i + l < end ? base[i + l] : nothing;
        rest_aligned[l] = i + l < end ? aligned[i + l] : nothing;
      }
      add_terms(rest_base, rest_aligned, norms, sums);
    }
    for (int l = 0; l < kLanes; ++l) {
      out.kl_base_aligned += sums.base_aligned[l];
      out.kl_aligned_base += sums.aligned_base[l];
      out.js += sums.js[l];
      base_lacks += sums.base_lacks[l];
      aligned_lacks += sums.aligned_lacks[l];
    }
  }
  const double infinite = std::numeric_limits<double>::infinity();
  if (aligned_lacks) out.kl_base_aligned = infinite;
  if (base_lacks) out.kl_aligned_base = infinite;
  return out;
}

// Writes a side's top-k list; returns the probability outside it.
inline double write_top(const float *row, std::size_t n, const Side &s, int k, std::int32_t *ids,
                        double *logprobs) {
  const Leaders best = leaders(row, n, s.finite ? k : 0);
  double inside = 0.0;
  for (int j = 0; j < k; ++j) {
    const bool here = j < best.n;
    ids[j] = here ? best.id[j] : -1;
    logprobs[j] = here ? static_cast<double>(best.x[j]) - s.scan.max - s.log_sum
                       : -std::numeric_limits<double>::infinity();
    inside += std::exp(logprobs[j]);
  }
  if (!s.finite) return std::numeric_limits<double>::quiet_NaN();
  return inside < 1.0 ? 1.0 - inside : 0.0;
}

ShiftRow shift_row(const float *base, const float *aligned, std::size_t n, std::size_t target,
                   int k, TopLists top) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Side b = side(base, n, target), a = side(aligned, n, target);
  ShiftRow out{0, 0, kShiftOk, nan, nan, nan, nan, nan, nan, nan, nan, nan};
  out.base_outside = write_top(base, n, b, k, top.base_ids, top.base_logprobs);
  out.aligned_outside = write_top(aligned, n, a, k, top.aligned_ids, top.aligned_logprobs);
  if (b.finite) {
    out.base_rank = static_cast<std::int32_t>(1 + b.scan.above + b.scan.equal);
    out.base_logprob = static_cast<double>(base[target]) - b.scan.max - b.log_sum;
    out.base_entropy = b.entropy;
  } else {
    out.status |= kBaseNotFinite;
  }
  if (a.finite) {
    out.aligned_rank = static_cast<std::int32_t>(1 + a.scan.above + a.scan.equal);
    out.aligned_logprob = static_cast<double>(aligned[target]) - a.scan.max - a.log_sum;
    out.aligned_entropy = a.entropy;
  } else {
    out.status |= kAlignedNotFinite;
  }
  if (out.status == kShiftOk) {
    const Divergences d = divergences(base, aligned, n, b, a);
    out.kl_base_aligned = d.kl_base_aligned;
    out.kl_aligned_base = d.kl_aligned_base;
    out.js = d.js;
  }
  return out;
}

}  // namespace URIAL_LEVEL
}  // namespace urial

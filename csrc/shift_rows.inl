// Included after draw.inl into a namespace for each instruction level. Same style: fixed lanes that
// the compiler vectorises, no intrinsics, single precision inside a chunk, double across.
//
// Two passes: one over each row (shift_side.inl), one over both together, once their norms are known.

#include "shift_side.inl"

namespace urial {
namespace URIAL_LEVEL {

// One token's parts of the three divergences. Of the two probabilities p is the larger and p u the
// smaller, u = exp(-y) with y = |ln b - ln a|. Terms that are never negative, written so that close
// distributions do not cancel (KL as sum of p ln(p/q) loses all digits in single precision):
//   larger  = y - 1 + u                         its part of KL(model with p || other), over p
//   smaller = 1 - u - u y                       its part of the other KL, over p
//           = (y - larger) y - larger         for small y
//   js      = (-u y + (1 + u)(ln 2 - ln(1 + u))) / 2
// Each adds a term, u - 1 or 1 - u, that vanishes in the sum since both distributions sum to 1; so
// an error of the normalisation comes in squared only.
struct Parts {
  float larger, smaller, js;
};

inline Parts parts(float y, float u) {
  // y < 1/2: y^2 times polynomials, fitted to the least largest relative error (below 1e-7).
  const float z = y * y;
  float a = 0.00116323767f;
  a = a * y - 0.00823715977f;
  a = a * y + 0.0416495921f;
  a = a * y - 0.166665593f;
  a = a * y + 0.499999989f;
  float c = 0.00033591919f;
  c = c * y - 0.00256236871f;
  c = c * y + 0.0156175536f;
  c = c * y - 0.0624995282f;
  c = c * y + 0.124999995f;
  // Else as the definitions read; ln(1 + u) = u times a polynomial, fitted on [0, exp(-1/2)].
  float l = 0.0306044414f;
  l = l * u - 0.101458313f;
  l = l * u + 0.177577602f;
  l = l * u - 0.2457245f;
  l = l * u + 0.332929606f;
  l = l * u - 0.499985378f;
  l = l * u + 0.999999912f;
  const float half = 0.5f + 0.5f * u;
  const float far_js = half * (0.69314718056f - u * l) - 0.5f * u * y;
  const bool is_near = y < 0.5f;
  const float near_larger = z * a;
  const float near_smaller = (y - near_larger) * y - near_larger;
  return {is_near ? near_larger : y - 1.0f + u, is_near ? near_smaller : 1.0f - u - u * y,
          is_near ? z * c : far_js};
}

struct Divergences {
  double kl_base_aligned, kl_aligned_base, js, overlap;
};

// What the terms of a token need to know of the two rows.
struct Norms {
  float base_top, aligned_top;      // subtracted first, exactly as for the sums
  float base_log, aligned_log;      // then these, ln sum_v exp(logit_v - top)
  float shift_high, shift_low;      // lse(base) - lse(aligned), in two parts
};

constexpr std::size_t kTerms = 256;  // tokens whose terms are computed at a time
constexpr std::size_t kTogether = 64 * kTerms;  // summed in single precision before going to double

// Sums over lanes; the last two of each model's tokens that the other cannot write.
struct Sums {
  float base_aligned[kTerms] = {}, aligned_base[kTerms] = {}, js[kTerms] = {};
  float larger[kTerms] = {}, smaller[kTerms] = {};  // of the two probabilities
  std::int32_t base_lacks[kTerms] = {}, aligned_lacks[kTerms] = {};
};

// Adds the terms of kTerms tokens; with kHoles there may be logits of -inf. A function of its own,
// since GCC 12 vectorises the loops only then.
template <bool kHoles>
[[gnu::noinline]] void add_terms(const float *base, const float *aligned, const Norms &norms, Sums &sums) {
  float ratio[kTerms], p[kTerms];  // ln b - ln a, and the larger of ln b and ln a
  for (std::size_t l = 0; l < kTerms; ++l) {
    const float x = base[l], y = aligned[l];
    const std::int32_t no_base = kHoles && x == kNothing, no_aligned = kHoles && y == kNothing;
    const float xb = no_base ? 0.0f : x, ya = no_aligned ? 0.0f : y;
    // x - y with its rounding error: the logits of the models may lie far apart.
    const float d = xb - ya;
    const float v = xb - d;
    const float error = (xb - (d + v)) + (v - ya);
    const float m = (d - norms.shift_high) + (error - norms.shift_low);
    const float log_base = x - norms.base_top - norms.base_log;
    const float log_aligned = kHoles ? y - norms.aligned_top - norms.aligned_log : log_base - m;
    const float log_p = log_base > log_aligned ? log_base : log_aligned;
    p[l] = log_p;
    // 100 is as good as infinite.
    ratio[l] = no_base ? (no_aligned ? 0.0f : -100.0f) : no_aligned ? 100.0f : m;
    if (kHoles) {
      sums.base_lacks[l] += no_base & (no_aligned ^ 1);
      sums.aligned_lacks[l] += no_aligned & (no_base ^ 1);
    }
  }
  for (std::size_t l = 0; l < kTerms; ++l) {
    const float m = ratio[l], y = std::fabs(m), log_p = p[l];
    const float near_u = exp_rough(-y), near_weight = exp_rough(log_p);
    const float u = y < -kLeast ? near_u : 0.0f, weight = log_p > kLeast ? near_weight : 0.0f;
    const Parts g = parts(y, u);
    sums.base_aligned[l] += weight * (m > 0.0f ? g.larger : g.smaller);
    sums.aligned_base[l] += weight * (m > 0.0f ? g.smaller : g.larger);
    sums.js[l] += weight * g.js;
    sums.larger[l] += weight;
    sums.smaller[l] += weight * u;
  }
}

template <bool kHoles>
Divergences divergences(const float *base, const float *aligned, std::size_t n, const Side &b,
                        const Side &a) {
  const double shift = b.log_sum_exp() - a.log_sum_exp();
  const float high = static_cast<float>(shift);
  const Norms norms{b.top, a.top, static_cast<float>(b.log_sum), static_cast<float>(a.log_sum),
                    high, static_cast<float>(shift - high)};
  Divergences out{0.0, 0.0, 0.0, 0.0};
  double larger = 0.0, smaller = 0.0;
  std::int64_t base_lacks = 0, aligned_lacks = 0;
  for (std::size_t start = 0; start < n; start += kTogether) {
    const std::size_t end = start + kTogether < n ? start + kTogether : n;
    Sums sums;
    std::size_t i = start;
    for (; i + kTerms <= end; i += kTerms) add_terms<kHoles>(base + i, aligned + i, norms, sums);
    if (i < end) {  // the last few, filled up with tokens that neither model can write
      float rest_base[kTerms], rest_aligned[kTerms];
      for (std::size_t l = 0; l < kTerms; ++l) {
        rest_base[l] = i + l < end ? base[i + l] : kNothing;
        rest_aligned[l] = i + l < end ? aligned[i + l] : kNothing;
      }
      add_terms<true>(rest_base, rest_aligned, norms, sums);
    }
    for (std::size_t l = 0; l < kTerms; ++l) {
      out.kl_base_aligned += sums.base_aligned[l];
      out.kl_aligned_base += sums.aligned_base[l];
      out.js += sums.js[l];
      larger += sums.larger[l];
      smaller += sums.smaller[l];
      base_lacks += sums.base_lacks[l];
      aligned_lacks += sums.aligned_lacks[l];
    }
  }
  const double infinite = std::numeric_limits<double>::infinity();
  if (aligned_lacks) out.kl_base_aligned = infinite;
  if (base_lacks) out.kl_aligned_base = infinite;
  // The two sum to 2; divided by that, equal rows overlap by exactly 1.
  out.overlap = 2.0 * smaller / (larger + smaller);
  return out;
}

// Writes a side's top-k list; returns the probability outside it.
inline double write_top(const Side &s, const Leaders &best, int k, std::int32_t *ids,
                        double *logprobs) {
  double inside = 0.0;
  for (int j = 0; j < k; ++j) {
    const bool here = j < best.n;
    ids[j] = here ? best.id[j] : -1;
    logprobs[j] = here ? s.logprob(best.x[j]) : -std::numeric_limits<double>::infinity();
    inside += std::exp(logprobs[j]);
  }
  if (!s.finite) return std::numeric_limits<double>::quiet_NaN();
  return inside < 1.0 ? 1.0 - inside : 0.0;
}

ShiftRow shift_row(const float *base, const float *aligned, std::size_t n, std::size_t target,
                   int k, TopLists top) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Side b = side(base, n, target), a = side(aligned, n, target);
  const Leaders b_best = leaders(base, n, b, k), a_best = leaders(aligned, n, a, k);
  ShiftRow out{0,   0,   kShiftOk, nan, nan, nan, nan, nan, nan,
               nan, nan, nan,      nan, nan, nan, nan, nan, nan};
  out.base_outside = write_top(b, b_best, k, top.base_ids, top.base_logprobs);
  out.aligned_outside = write_top(a, a_best, k, top.aligned_ids, top.aligned_logprobs);
  if (b.finite) {
    out.base_rank = static_cast<std::int32_t>(b.rank);
    out.base_logprob = b.logprob(base[target]);
    out.base_entropy = b.all.entropy();
    out.base_nucleus_entropy = nucleus(base, n, b, b_best).entropy();
    out.base_above = std::min(1.0, b.above.sum / b.all.sum);
  } else {
    out.status |= kBaseNotFinite;
  }
  if (a.finite) {
    out.aligned_rank = static_cast<std::int32_t>(a.rank);
    out.aligned_logprob = a.logprob(aligned[target]);
    out.aligned_entropy = a.all.entropy();
    out.aligned_above = std::min(1.0, a.above.sum / a.all.sum);
    const Weights inside = nucleus(aligned, n, a, a_best);
    out.aligned_nucleus_entropy = inside.entropy();
    out.aligned_nucleus_mass = std::min(1.0, inside.sum / a.all.sum);
  } else {
    out.status |= kAlignedNotFinite;
  }
  if (out.status == kShiftOk) {
    const Divergences d = b.holes || a.holes ? divergences<true>(base, aligned, n, b, a)
                                             : divergences<false>(base, aligned, n, b, a);
    out.kl_base_aligned = d.kl_base_aligned;
    out.kl_aligned_base = d.kl_aligned_base;
    out.js = d.js;
    out.overlap = d.overlap;
  }
  return out;
}

}  // namespace URIAL_LEVEL
}  // namespace urial

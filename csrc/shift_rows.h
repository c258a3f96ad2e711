// Statistics of two next-token distributions over one vocabulary: a base and an aligned model's.
//
// Knows nothing of Python or llama.cpp: two plain float rows in, plain numbers out. Logarithms are
// natural. The definitions stand in urial_local/runtime/shift_rows.py, next to their float64 twin.
#pragma once

#include <cstddef>
#include <cstdint>

namespace urial {

constexpr int kMaxTop = 64;  // longest top-k list

enum ShiftStatus : std::int32_t {  // bits
  kShiftOk = 0,
  kBaseNotFinite = 1,     // a NaN, a +inf or nothing finite: no distribution
  kAlignedNotFinite = 2,  // the same of the aligned model
};

struct ShiftRow {
  std::int32_t base_rank, aligned_rank;  // of the target, from 1; 0 without a distribution
  std::int32_t status;                   // ShiftStatus
  double base_logprob, aligned_logprob;  // of the target
  double kl_base_aligned;                // sum_v b(v) ln(b(v) / a(v)); +inf where a(v) = 0 < b(v)
  double kl_aligned_base;                // sum_v a(v) ln(a(v) / b(v)); +inf where b(v) = 0 < a(v)
  double js;                             // Jensen-Shannon divergence, at most ln 2
  double base_entropy, aligned_entropy;
  double base_outside, aligned_outside;  // probability of all that is not in the top-k list
  double overlap;                        // sum_v min(b(v), a(v))
  double base_above, aligned_above;      // probability of the tokens put before the target
  double base_nucleus_entropy, aligned_nucleus_entropy;  // of the nucleus at 0.9, renormalised
  double aligned_nucleus_mass;           // the nucleus' probability, before that
};

// Where the top-k lists go: ids (-1 past the last token of non-zero probability) and logprobs.
struct TopLists {
  std::int32_t *base_ids, *aligned_ids;
  double *base_logprobs, *aligned_logprobs;
};

using ShiftRowFn = ShiftRow (*)(const float *base, const float *aligned, std::size_t n_vocab,
                                std::size_t target, int k, TopLists top);

ShiftRowFn best_shift_row();
ShiftRowFn shift_row_named(const char *name);  // nullptr if unknown or not runnable here

}  // namespace urial

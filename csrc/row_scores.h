// Scores of chosen tokens in rows of logits: log-sum-exp, log-probability and rank.
//
// Knows nothing of Python or llama.cpp: plain float rows in, plain numbers out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace urial {

enum RowStatus : std::int32_t {
  kRowOk = 0,
  kRowNotFinite = 1,  // a NaN or +inf among the logits, or nothing finite at all
};

struct RowScore {
  double log_sum_exp;   // ln sum_v exp(logit_v), in nats
  double logprob;       // logit_target - log_sum_exp, in nats (<= 0)
  std::int32_t rank;    // 1 + #{v : logit_v > logit_target} + #{v < target : logit_v == logit_target}
  std::int32_t status;  // RowStatus; unless kRowOk the numbers are NaN and the rank is 0
};

using RowScoreFn = RowScore (*)(const float *row, std::size_t n_vocab, std::size_t target);

// The best version that this processor runs, and its name ("avx512", "avx2", "portable").
RowScoreFn best_row_score();
RowScoreFn row_score_named(const char *name);  // nullptr if unknown or not runnable here
const char *best_level_name();

}  // namespace urial

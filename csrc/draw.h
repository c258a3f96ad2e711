// Chooses the next token of a row of logits: penalty, top-k, top-p, min-p, temperature, draw.
//
// Knows nothing of Python or llama.cpp: plain float rows in, plain numbers out. The definitions
// stand in urial_local/runtime/draw_rows.py, next to their numpy twin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace urial {

struct Filters {
  double temperature;  // 0: the largest logit
  std::int64_t top_k;  // 0: all
  double top_p;        // 1: all
  double min_p;        // 0: all
  float penalty;       // 1: none
};

// What one row is drawn from. `view` is what the model may choose among: `row` itself, or a copy
// with some tokens ruled out. `seen`: the ids that the penalty looks at; doublets count once.
struct DrawTask {
  const float *row, *view;
  Filters filters;
  const std::int32_t *seen;
  std::size_t n_seen;
  double uniform;  // in [0, 1)
  std::size_t top;  // how many of the first tokens of `row` are told
  std::int32_t *top_ids;    // [top], -1 where there are fewer
  double *top_logprobs;     // [top]
};

struct Draw {
  std::int32_t token;
  std::int32_t status;  // RowStatus of `row`; unless kRowOk the token is 0 and the number NaN
  double logprob;       // of the token in `row`, before any change
};

// `scratch` is the caller's, kept between rows so that memory is not asked for again.
using DrawFn = Draw (*)(const DrawTask &task, std::size_t n_vocab, std::vector<float> &scratch);

DrawFn best_draw();
DrawFn draw_named(const char *name);  // nullptr if unknown or not runnable here

}  // namespace urial

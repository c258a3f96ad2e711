// The Python face of the kernels: checks shapes, releases the GIL, returns numpy arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string>
#include <vector>

#include "interrupts.h"
#include "row_scores.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> own(T *data, std::size_t n) {
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<T *>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {n}, owner);
}

nb::tuple score_rows(std::uintptr_t address, std::size_t n_rows, std::size_t n_vocab, Ids rows,
                     Ids targets, const std::string &level) {
  const std::size_t n = rows.shape(0);
  if (address == 0) throw nb::value_error("address of the logits is null");
  if (n != targets.shape(0)) throw nb::value_error("rows and targets differ in length");
  for (std::size_t i = 0; i < n; ++i) {
    if (rows(i) < 0 || static_cast<std::size_t>(rows(i)) >= n_rows)
      throw nb::index_error("row number out of range");
    if (targets(i) < 0 || static_cast<std::size_t>(targets(i)) >= n_vocab)
      throw nb::index_error("target id out of range");
  }
  const urial::RowScoreFn score =
      level.empty() ? urial::best_row_score() : urial::row_score_named(level.c_str());
  if (!score) throw nb::value_error("this processor does not run that instruction level");

  std::vector<urial::RowScore> out(n);
  {
    nb::gil_scoped_release release;
    const float *logits = reinterpret_cast<const float *>(address);
    for (std::size_t i = 0; i < n; ++i)
      out[i] = score(logits + static_cast<std::size_t>(rows(i)) * n_vocab, n_vocab,
                     static_cast<std::size_t>(targets(i)));
  }
  auto *lse = new double[n];
  auto *logprob = new double[n];
  auto *rank = new std::int32_t[n];
  auto *status = new std::int32_t[n];
  for (std::size_t i = 0; i < n; ++i) {
    lse[i] = out[i].log_sum_exp;
    logprob[i] = out[i].logprob;
    rank[i] = out[i].rank;
    status[i] = out[i].status;
  }
  return nb::make_tuple(own(lse, n), own(logprob, n), own(rank, n), own(status, n));
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Native kernels of urial-local over rows of logits.";
  m.def("score_rows", &score_rows, "address"_a, "n_rows"_a, "n_vocab"_a, "rows"_a, "targets"_a,
        "level"_a = "",
        "Log-sum-exp, log-probability and rank of one target id in each of the named rows of a\n"
        "float32 matrix [n_rows, n_vocab] at an address. See urial_local.runtime.row_scores.");
  m.def("instruction_level", [] { return std::string(urial::best_row_score_name()); },
        "Name of the instruction level chosen at run time: avx512, avx2 or portable.");
  m.def("abort_callback", [] { return reinterpret_cast<std::uintptr_t>(&urial::abort_requested); },
        "Address of a ggml_abort_callback that reads the int32 flag it is given as data.");
  m.def("begin_interrupts",
        [](std::uintptr_t flag) {
          return urial::begin_interrupts(reinterpret_cast<std::int32_t *>(flag));
        },
        "flag"_a, "Count SIGINT in the int32 at this address; False if already under way.");
  m.def("end_interrupts", &urial::end_interrupts, "Give SIGINT back to whom it belonged before.");
}

// The Python face of the kernels: checks shapes, releases the GIL, returns numpy arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "draw.h"
#include "interrupts.h"
#include "log.h"
#include "row_scores.h"
#include "shift_rows.h"

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

template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<2>> own(T *data, std::size_t n, std::size_t k) {
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<T *>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<2>>(data, {n, k}, owner);
}

// Calls work(i, t) for i in [0, n) over this many threads, t being the thread's number. Each takes the
// next that is not taken, so a thread that starts late holds nobody up. Where there is OpenMP, they
// are the threads that llama.cpp decodes with, and often still awake; asked for in the same number,
// since OpenMP ends those that a smaller team leaves over.
template <typename F>
void spread(std::size_t n, std::size_t threads, const F &work) {
  std::atomic<std::size_t> next{0};
  const auto share = [&](std::size_t t) {
    for (std::size_t i = next++; i < n; i = next++) work(i, t);
  };
  if (threads <= 1 || n <= 1) return share(0);
#ifdef _OPENMP
#pragma omp parallel num_threads(static_cast<int>(std::min<std::size_t>(threads, 512)))
  share(static_cast<std::size_t>(omp_get_thread_num()));
#else
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < std::min(threads, n); ++t) others.emplace_back(share, t);
  share(0);
  for (std::thread &other : others) other.join();
#endif
}

// A row to draw from, as Python hands it: addresses of float32 [n_vocab], filters, ids, uniform.
using DrawRow = std::tuple<std::uintptr_t, std::uintptr_t, double, std::int64_t, double, double,
                           double, Ids, double, std::size_t>;

nb::tuple draw_rows(const std::vector<DrawRow> &rows, std::size_t n_vocab, std::size_t threads,
                    const std::string &level) {
  const std::size_t n = rows.size();
  if (n_vocab == 0 || n_vocab > std::numeric_limits<std::int32_t>::max())
    throw nb::value_error("n_vocab must be between 1 and 2^31 - 1");
  const urial::DrawFn draw = level.empty() ? urial::best_draw() : urial::draw_named(level.c_str());
  if (!draw) throw nb::value_error("this processor does not run that instruction level");
  std::vector<urial::DrawTask> tasks;
  std::size_t most = 0;
  for (const auto &row : rows) most = std::max(most, std::get<9>(row));
  auto *top_ids = new std::int32_t[n * most];
  auto *top_logprobs = new double[n * most];
  std::fill(top_ids, top_ids + n * most, -1);
  std::fill(top_logprobs, top_logprobs + n * most, -std::numeric_limits<double>::infinity());
  const nb::ndarray<nb::numpy, std::int32_t, nb::ndim<2>> own_ids = own(top_ids, n, most);
  const nb::ndarray<nb::numpy, double, nb::ndim<2>> own_logprobs = own(top_logprobs, n, most);
  for (const auto &[row, view, temperature, top_k, top_p, min_p, penalty, seen, uniform, top] :
       rows) {
    if (row == 0 || view == 0) throw nb::value_error("address of the logits is null");
    for (std::size_t i = 0; i < seen.shape(0); ++i)
      if (seen(i) < 0 || static_cast<std::size_t>(seen(i)) >= n_vocab)
        throw nb::index_error("id under penalty out of range");
    tasks.push_back({reinterpret_cast<const float *>(row), reinterpret_cast<const float *>(view),
                     {temperature, top_k, top_p, min_p, static_cast<float>(penalty)},
                     seen.data(), seen.shape(0), uniform, top, top_ids + tasks.size() * most,
                     top_logprobs + tasks.size() * most});
  }
  auto *token = new std::int32_t[n];
  auto *status = new std::int32_t[n];
  auto *logprob = new double[n];
  {
    nb::gil_scoped_release release;
    // Kept from call to call: a megabyte that is new costs as much as the pass that fills it.
    thread_local std::vector<std::vector<float>> scratch;
    auto &room = scratch;  // the caller's, whichever thread uses its places
    room.resize(std::max(room.size(), std::max<std::size_t>(threads, 1)));
    spread(n, threads, [&](std::size_t i, std::size_t t) {
      const urial::Draw drawn = draw(tasks[i], n_vocab, room[t]);
      token[i] = drawn.token;
      status[i] = drawn.status;
      logprob[i] = drawn.logprob;
    });
  }
  return nb::make_tuple(own(token, n), own(logprob, n), own(status, n), own_ids, own_logprobs);
}

nb::dict shift_rows(std::uintptr_t base, std::uintptr_t aligned, std::size_t n_rows,
                    std::size_t n_vocab, Ids base_rows, Ids aligned_rows, Ids targets, int k,
                    std::size_t threads, const std::string &level) {
  const std::size_t n = targets.shape(0);
  if (base == 0 || aligned == 0) throw nb::value_error("address of the logits is null");
  if (n != base_rows.shape(0) || n != aligned_rows.shape(0))
    throw nb::value_error("rows and targets differ in length");
  if (k < 0 || k > urial::kMaxTop) throw nb::value_error("k must be between 0 and 64");
  for (std::size_t i = 0; i < n; ++i) {
    for (const std::int32_t row : {base_rows(i), aligned_rows(i)})
      if (row < 0 || static_cast<std::size_t>(row) >= n_rows)
        throw nb::index_error("row number out of range");
    if (targets(i) < 0 || static_cast<std::size_t>(targets(i)) >= n_vocab)
      throw nb::index_error("target id out of range");
  }
  const urial::ShiftRowFn shift =
      level.empty() ? urial::best_shift_row() : urial::shift_row_named(level.c_str());
  if (!shift) throw nb::value_error("this processor does not run that instruction level");

  const std::size_t width = static_cast<std::size_t>(k);
  std::vector<urial::ShiftRow> rows(n);
  auto *base_ids = new std::int32_t[n * width];
  auto *aligned_ids = new std::int32_t[n * width];
  auto *base_logprobs = new double[n * width];
  auto *aligned_logprobs = new double[n * width];
  {
    nb::gil_scoped_release release;
    const auto row = [n_vocab](std::uintptr_t address, std::int32_t number) {
      return reinterpret_cast<const float *>(address) + static_cast<std::size_t>(number) * n_vocab;
    };
    spread(n, threads, [&](std::size_t i, std::size_t) {
      const urial::TopLists top{base_ids + i * width, aligned_ids + i * width,
                                base_logprobs + i * width, aligned_logprobs + i * width};
      rows[i] = shift(row(base, base_rows(i)), row(aligned, aligned_rows(i)), n_vocab,
                      static_cast<std::size_t>(targets(i)), k, top);
    });
  }
  nb::dict out;
  const auto column = [&](const char *name, auto member) {
    using T = std::decay_t<decltype(urial::ShiftRow{}.*member)>;
    auto *data = new T[n];
    for (std::size_t i = 0; i < n; ++i) data[i] = rows[i].*member;
    out[name] = own(data, n);
  };
  using R = urial::ShiftRow;
  column("status", &R::status);
  column("base_rank", &R::base_rank);
  column("aligned_rank", &R::aligned_rank);
  column("base_logprob", &R::base_logprob);
  column("aligned_logprob", &R::aligned_logprob);
  column("kl_base_aligned", &R::kl_base_aligned);
  column("kl_aligned_base", &R::kl_aligned_base);
  column("js", &R::js);
  column("base_entropy", &R::base_entropy);
  column("aligned_entropy", &R::aligned_entropy);
  column("base_outside", &R::base_outside);
  column("aligned_outside", &R::aligned_outside);
  column("overlap", &R::overlap);
  column("base_above", &R::base_above);
  column("aligned_above", &R::aligned_above);
  column("base_nucleus_entropy", &R::base_nucleus_entropy);
  column("aligned_nucleus_entropy", &R::aligned_nucleus_entropy);
  column("aligned_nucleus_mass", &R::aligned_nucleus_mass);
  out["base_top_ids"] = own(base_ids, n, width);
  out["aligned_top_ids"] = own(aligned_ids, n, width);
  out["base_top_logprobs"] = own(base_logprobs, n, width);
  out["aligned_top_logprobs"] = own(aligned_logprobs, n, width);
  return out;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Native kernels of urial-local over rows of logits.";
  m.def("score_rows", &score_rows, "address"_a, "n_rows"_a, "n_vocab"_a, "rows"_a, "targets"_a,
        "level"_a = "",
        "Log-sum-exp, log-probability and rank of one target id in each of the named rows of a\n"
        "float32 matrix [n_rows, n_vocab] at an address. See urial_local.runtime.row_scores.");
  m.def("draw_rows", &draw_rows, "rows"_a, "n_vocab"_a, "threads"_a = 1, "level"_a = "",
        "The next token of each row of logits, its log-probability and whether the row is finite.\n"
        "See urial_local.runtime.draw_rows.");
  m.def("shift_rows", &shift_rows, "base"_a, "aligned"_a, "n_rows"_a, "n_vocab"_a, "base_rows"_a,
        "aligned_rows"_a, "targets"_a, "k"_a, "threads"_a = 1, "level"_a = "",
        "Shift statistics of pairs of rows of two float32 matrices [n_rows, n_vocab] at two\n"
        "addresses. See urial_local.runtime.shift_rows.");
  m.def("instruction_level", [] { return std::string(urial::best_level_name()); },
        "Name of the instruction level chosen at run time: avx512, avx2 or portable.");
  m.def("abort_callback", [] { return reinterpret_cast<std::uintptr_t>(&urial::abort_requested); },
        "Address of a ggml_abort_callback that reads the int32 flag it is given as data.");
  m.def("begin_interrupts",
        [](std::uintptr_t flag) {
          return urial::begin_interrupts(reinterpret_cast<std::int32_t *>(flag));
        },
        "flag"_a, "Count SIGINT in the int32 at this address; False if already under way.");
  m.def("log_callback", [] { return reinterpret_cast<std::uintptr_t>(&urial::keep_log); },
        "Address of a ggml_log_callback that keeps errors for take_log.");
  m.def("take_log",
        [] {
          nb::list found;  // as bytes: what a model's metadata holds need not be UTF-8
          for (const std::string &line : urial::take_log())
            found.append(nb::bytes(line.data(), line.size()));
          return found;
        },
        "The last errors that llama.cpp told of; they are forgotten.");
  m.def("end_interrupts", &urial::end_interrupts, "Give SIGINT back to whom it belonged before.");
}

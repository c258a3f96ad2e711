// Picks, at run time, the kernel for the instruction level of this processor.
#include <cstring>
#include <initializer_list>

#include "row_scores.h"

namespace urial {

namespace portable {
RowScore row_score(const float *, std::size_t, std::size_t);
}
#ifdef URIAL_X86
namespace avx2 {
RowScore row_score(const float *, std::size_t, std::size_t);
}
namespace avx512 {
RowScore row_score(const float *, std::size_t, std::size_t);
}
#endif

RowScoreFn row_score_named(const char *name) {
#ifdef URIAL_X86
  __builtin_cpu_init();
  if (std::strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return avx512::row_score;
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma"))
    return avx2::row_score;
#endif
  if (std::strcmp(name, "portable") == 0) return portable::row_score;
  return nullptr;
}

const char *best_row_score_name() {
  for (const char *name : {"avx512", "avx2"})
    if (row_score_named(name)) return name;
  return "portable";
}

RowScoreFn best_row_score() {
  static const RowScoreFn best = row_score_named(best_row_score_name());
  return best;
}

}  // namespace urial

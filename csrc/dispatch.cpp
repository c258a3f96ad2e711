// Picks, at run time, the kernels for the instruction level of this processor.
#include <cstring>
#include <initializer_list>

#include "draw.h"
#include "row_scores.h"
#include "shift_rows.h"

namespace urial {

#define URIAL_DECLARE(level)                                                                  \
  namespace level {                                                                           \
  RowScore row_score(const float *, std::size_t, std::size_t);                                \
  Draw draw(const DrawTask &, std::size_t, std::vector<float> &);                             \
  ShiftRow shift_row(const float *, const float *, std::size_t, std::size_t, int, TopLists);  \
  }
URIAL_DECLARE(portable)
#ifdef URIAL_X86
URIAL_DECLARE(avx2)
URIAL_DECLARE(avx512)
#endif
#undef URIAL_DECLARE

namespace {

struct Level {
  const char *name;
  RowScoreFn row_score;
  DrawFn draw;
  ShiftRowFn shift_row;
};

// nullptr if unknown or not runnable here.
const Level *find_level(const char *name) {
#ifdef URIAL_X86
  static const Level avx512_level{"avx512", avx512::row_score, avx512::draw, avx512::shift_row};
  static const Level avx2_level{"avx2", avx2::row_score, avx2::draw, avx2::shift_row};
  __builtin_cpu_init();
  if (std::strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return &avx512_level;
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma"))
    return &avx2_level;
#endif
  static const Level portable_level{"portable", portable::row_score, portable::draw, portable::shift_row};
  return std::strcmp(name, "portable") == 0 ? &portable_level : nullptr;
}

const Level &best_level() {
  static const Level *best = [] {
    for (const char *name : {"avx512", "avx2"})
      if (const Level *level = find_level(name)) return level;
    return find_level("portable");
  }();
  return *best;
}

}  // namespace

RowScoreFn row_score_named(const char *name) {
  const Level *level = find_level(name);
  return level ? level->row_score : nullptr;
}

DrawFn draw_named(const char *name) {
  const Level *level = find_level(name);
  return level ? level->draw : nullptr;
}

ShiftRowFn shift_row_named(const char *name) {
  const Level *level = find_level(name);
  return level ? level->shift_row : nullptr;
}

RowScoreFn best_row_score() { return best_level().row_score; }
DrawFn best_draw() { return best_level().draw; }
ShiftRowFn best_shift_row() { return best_level().shift_row; }
const char *best_level_name() { return best_level().name; }

}  // namespace urial

// Compiled for its instruction level by CMakeLists.txt.
#define URIAL_LEVEL avx2
#include "row_scores.inl"
#include "draw.inl"
#include "shift_rows.inl"

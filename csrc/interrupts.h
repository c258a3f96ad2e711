// Ctrl-C while llama.cpp computes.
//
// Python runs its signal handlers between bytecodes, so none runs during a long llama_decode. These
// few lines note the signal at once, in a flag that llama.cpp's abort callback reads. No Python
// code runs in either, so a computation costs the same with them as without.
#pragma once

#include <cstdint>

namespace urial {

// llama.cpp's ggml_abort_callback: `flag` is the address of an int32; non-zero means stop.
bool abort_requested(void *flag);

// Until end_interrupts(), SIGINT adds one to the int32 at `flag` instead of reaching Python.
bool begin_interrupts(std::int32_t *flag);
void end_interrupts();

}  // namespace urial

// What llama.cpp says of errors, kept until somebody asks.
//
// No Python runs here: a KeyboardInterrupt that is raised inside a callback is lost, and llama.cpp
// writes its log while it loads a model or makes a context, which is when people press Ctrl-C.
#pragma once

#include <string>
#include <vector>

namespace urial {

// llama.cpp's ggml_log_callback.
void keep_log(int level, const char *text, void *);

// The last lines of errors, at most 20, which are forgotten here.
std::vector<std::string> take_log();

}  // namespace urial

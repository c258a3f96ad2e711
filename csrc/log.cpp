#include "log.h"

#include <cstddef>
#include <mutex>

namespace urial {

namespace {
constexpr int kError = 4;  // GGML_LOG_LEVEL_ERROR
constexpr std::size_t kLines = 20, kLongest = 4096;
std::mutex guard;
std::vector<std::string> lines;
}  // namespace

void keep_log(int level, const char *text, void *) {
  if (level != kError || !text) return;
  const std::lock_guard<std::mutex> held(guard);
  if (lines.size() == kLines) lines.erase(lines.begin());
  lines.push_back(std::string(text).substr(0, kLongest));
}

std::vector<std::string> take_log() {
  const std::lock_guard<std::mutex> held(guard);
  std::vector<std::string> found;
  found.swap(lines);
  return found;
}

}  // namespace urial

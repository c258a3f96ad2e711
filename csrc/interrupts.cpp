#include "interrupts.h"

#include <signal.h>

#include <atomic>

namespace urial {

namespace {
std::atomic<std::int32_t *> current{nullptr};
struct sigaction before;

void on_interrupt(int) {
  if (std::int32_t *flag = current.load(std::memory_order_relaxed))
    __atomic_add_fetch(flag, 1, __ATOMIC_RELAXED);
}
}  // namespace

bool abort_requested(void *flag) {
  return __atomic_load_n(static_cast<std::int32_t *>(flag), __ATOMIC_RELAXED) != 0;
}

bool begin_interrupts(std::int32_t *flag) {
  std::int32_t *none = nullptr;
  if (!current.compare_exchange_strong(none, flag)) return false;
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGINT, &action, &before) == 0;
}

void end_interrupts() {
  if (current.load() == nullptr) return;
  sigaction(SIGINT, &before, nullptr);
  current.store(nullptr);
}

}  // namespace urial

// Counts how often the program waits for a device, for scripts/gpu.sh; writes the count to the file in MLX_GPT_COUNT_WAITS.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>

#include "mlx/array.h"

namespace {

std::atomic<long> waits{0};

void write_count() {
  const char *path = getenv("MLX_GPT_COUNT_WAITS");
  FILE *file = path ? fopen(path, "w") : nullptr;
  if (!file) return;
  fprintf(file, "%ld\n", waits.load());
  fclose(file);
}

__attribute__((constructor)) void begin() {
  if (getenv("MLX_GPT_COUNT_WAITS")) atexit(write_count);
}

} // namespace

void mlx::core::array::wait() {
  static auto *own = reinterpret_cast<void (*)(array *)>(dlsym(RTLD_NEXT, "_ZN3mlx4core5array4waitEv"));
  if (!is_available()) waits++;
  own(this);
}

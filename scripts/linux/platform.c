// Functions that mlx-rs and MLX expect from the system but Linux lacks, linked into every binary with mlx-c.
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <time.h>

// mlx-rs seeds its random state from this macOS clock.
uint64_t mach_approximate_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// MLX allocates and frees arrays with every operation. glibc returns large ones to the system, and clearing the new pages took
// half of the step time of a model with 124 million parameters. A single heap keeps freed memory instead, except for very large
// arrays such as the embeddings, which would fragment it by about 10 %.
__attribute__((constructor)) static void keep_memory(void) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_ARENA_MAX, 1);
}

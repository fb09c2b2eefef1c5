// What mlx-rs and MLX expect of the system and Linux does not give, linked into every binary beside mlx-c.
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

// MLX's arrays are allocated and freed with every operation. glibc gives large ones back to the system and asks for fresh pages
// each time, and clearing those took half of a step's time of a model of 124 million parameters. One heap keeps them instead,
// but for arrays like its embeddings, which would leave holes in it: as much again as a tenth of what it needs.
__attribute__((constructor)) static void keep_memory(void) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_ARENA_MAX, 1);
}

// OpenBLAS's kernels in use, and their speed relative to the processor's vector unit. OpenBLAS chooses kernels by the
// processor's name: for an unknown one, a version of 2022 chose kernels of 2004, four times slower than suitable ones.
#define _GNU_SOURCE
#include "blas_core.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "override.h"

void mlx_gpt_blas(char name[128]) {
  char *(*config)(void) = (char *(*)(void))dlsym(RTLD_NEXT, "openblas_get_config");
  char *(*core)(void) = (char *(*)(void))dlsym(RTLD_NEXT, "openblas_get_corename");
  char version[32] = "";
  if (!config || !core) snprintf(name, 128, "a BLAS that is not OpenBLAS");
  else if (sscanf(config(), "OpenBLAS %31s", version) == 1) snprintf(name, 128, "OpenBLAS %s, %s kernels", version, core());
  else snprintf(name, 128, "OpenBLAS, %s kernels", core());
}

// Rounds of `x = x a + b` on enough registers to keep the vector unit busy. Returns the number of floating-point operations.
#define VECTOR_ROUNDS(name, attribute, bytes, registers, constraint)             \
  attribute static double name(int64_t rounds) {                                 \
    typedef float vector __attribute__((vector_size(bytes)));                    \
    vector x[registers] = {0}, a = (vector){0} + 0.5f, b = (vector){0} + 1.0f;   \
    for (int64_t i = 0; i < rounds; i++)                                         \
      _Pragma("GCC unroll 32") for (int r = 0; r < registers; r++) {             \
        x[r] = x[r] * a + b;                                                     \
        __asm__ volatile("" : "+" constraint(x[r])); /* keep in a register   */ \
      }                                                                          \
    return 2.0 * rounds * registers * (bytes / sizeof(float));                   \
  }

#if defined(__x86_64__)
VECTOR_ROUNDS(with_avx512, __attribute__((target("avx512f"))), 64, 16, "v")
VECTOR_ROUNDS(with_avx2, __attribute__((target("avx2,fma"))), 32, 12, "x")
VECTOR_ROUNDS(with_sse, , 16, 12, "x")

static int has_avx512(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"); }
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static double widest_rounds(int64_t rounds) { return has_avx512() ? with_avx512(rounds) : has_avx2() ? with_avx2(rounds) : with_sse(rounds); }
void mlx_gpt_fitting_blas_core(char name[32]) { snprintf(name, 32, "%s", has_avx512() ? "SkylakeX" : has_avx2() ? "Haswell" : ""); }
#else
VECTOR_ROUNDS(widest_rounds, , 16, 24, "w") // Neon
void mlx_gpt_fitting_blas_core(char name[32]) { name[0] = 0; }
#endif

// CPU time of this thread, which excludes other programs.
static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

void mlx_gpt_blas_rates(double rates[2]) {
  enum { side = 512, turns = 8 };
  void (*product)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int) =
      mlx_gpt_find("cblas_sgemm", "cblas_sgemm");
  float *a = calloc(3 * side * side, sizeof *a);
  rates[0] = rates[1] = 0;
  if (!a) return;
  // Alternating, taking the best of each, so that disturbances affect both alike.
  for (int turn = 0; turn < turns; turn++) {
    double start = seconds();
    product(101, 111, 111, side, side, side, 1, a, side, a + side * side, side, 0, a + 2 * side * side, side);
    double between = seconds(), operations = widest_rounds(1 << 19), end = seconds();
    double rate = 2.0 * side * side * side / (between - start);
    if (rate > rates[0]) rates[0] = rate;
    rate = operations / (end - between);
    if (rate > rates[1]) rates[1] = rate;
  }
  free(a);
}

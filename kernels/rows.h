// Vectorised functions of rows of numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mlx/backend/cpu/simd/simd.h"

// Compiles a function for AVX-512, for AVX2 with FMA, and for neither; the processor's version is selected at start-up.
#if defined(__x86_64__)
#define MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define MULTIVERSION __attribute__((noinline))
#endif

namespace rows {

constexpr int lanes = 16; // independent partial results, so that a reduction is not one chain of dependent operations

inline float exp(float x) { return mlx::core::simd::exp(mlx::core::simd::Simd<float, 1>(x)).value; }

// Reduces `at(0)` … `at(n - 1)`.
template <typename At, typename Combine>
inline float fold(int64_t n, float first, At at, Combine combine) {
  float part[lanes];
  for (int lane = 0; lane < lanes; lane++) part[lane] = first;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int lane = 0; lane < lanes; lane++) part[lane] = combine(part[lane], at(i + lane));
  for (int lane = 0; i < n; i++, lane++) part[lane] = combine(part[lane], at(i));
  for (int step = lanes / 2; step > 0; step /= 2)
    for (int lane = 0; lane < step; lane++) part[lane] = combine(part[lane], part[lane + step]);
  return part[0];
}

inline float sum(const float *x, int64_t n) {
  return fold(n, 0, [x](int64_t i) { return x[i]; }, [](float a, float b) { return a + b; });
}

inline float max(const float *x, int64_t n) {
  return fold(n, -INFINITY, [x](int64_t i) { return x[i]; }, [](float a, float b) { return a > b ? a : b; });
}

inline float dot(const float *x, const float *y, int64_t n) {
  return fold(n, 0, [x, y](int64_t i) { return x[i] * y[i]; }, [](float a, float b) { return a + b; });
}

} // namespace rows

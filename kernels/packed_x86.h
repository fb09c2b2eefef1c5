// Dot products of packed weights on x86-64; see packed_row.h. No `#pragma once`: packed_dot.cpp's alone.
#include <immintrin.h>

// AVX-512 with VNNI, which multiplies unsigned bytes by signed ones: activations are stored as their upper and lower halves.
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")
namespace packed::vnni {

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
struct Dots {
  __m256i upper, lower;
};
constexpr int weight_offset = 0;

static inline void store(int8_t *to, int i, int n) {
  int8_t lower = static_cast<int8_t>(n);
  to[i] = static_cast<int8_t>((n - lower) / 256);
  to[block + i] = lower;
}

static inline __m256i load(const uint8_t *w) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(w)); }

static inline __m256i unpack(const uint8_t *w) {
  __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(w)));
  return _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_set_epi64x(4, 4, 0, 0)), _mm256_set1_epi8(15));
}

static inline Dots dot(Dots dots, __m256i w, const int8_t *x) {
  const __m256i *halves = reinterpret_cast<const __m256i *>(x);
  return {_mm256_dpbusd_epi32(dots.upper, w, _mm256_loadu_si256(halves)), _mm256_dpbusd_epi32(dots.lower, w, _mm256_loadu_si256(halves + 1))};
}

static inline Ints total(Dots dots) { return (Ints)_mm256_add_epi32(_mm256_slli_epi32(dots.upper, 8), dots.lower); }

#include "packed_row.h"

} // namespace packed::vnni
#pragma GCC pop_options

// AVX2, which multiplies and adds pairs of 16 bits.
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace packed::avx2 {

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef __m256i Dots;
constexpr int weight_offset = 0;

static inline void store(int8_t *to, int i, int n) { reinterpret_cast<int16_t *>(to)[i] = static_cast<int16_t>(n); }

static inline __m256i load(const uint8_t *w) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(w)); }

static inline __m256i unpack(const uint8_t *w) {
  __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(w)));
  return _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_set_epi64x(4, 4, 0, 0)), _mm256_set1_epi8(15));
}

static inline __m256i dot(__m256i dots, __m256i w, const int8_t *x) {
  const __m256i *both = reinterpret_cast<const __m256i *>(x);
  __m256i first = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(w)), _mm256_loadu_si256(both));
  __m256i second = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(w, 1)), _mm256_loadu_si256(both + 1));
  return _mm256_add_epi32(dots, _mm256_add_epi32(first, second));
}

static inline Ints total(__m256i dots) { return (Ints)dots; }

#include "packed_row.h"

} // namespace packed::avx2
#pragma GCC pop_options

// Dot products of packed weights on 64-bit Arm; see packed_row.h. No `#pragma once`: packed_dot.cpp's alone.
#include <arm_neon.h>
#include <sys/auxv.h>

// The dot products of ARMv8.2, of signed bytes: 128 is subtracted from weights, and activations are stored as their upper and
// lower halves.
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
namespace packed::dotprod {

typedef float Floats __attribute__((vector_size(16)));
struct Dots {
  int32x4_t upper, lower;
};
constexpr int weight_offset = 128;

static inline void store(int8_t *to, int i, int n) {
  int8_t lower = static_cast<int8_t>(n);
  to[i] = static_cast<int8_t>((n - lower) / 256);
  to[block + i] = lower;
}

static inline int8x16x2_t load(const uint8_t *w) {
  uint8x16_t offset = vdupq_n_u8(weight_offset);
  return {vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w), offset)), vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 16), offset))};
}

static inline int8x16x2_t unpack(const uint8_t *w) {
  uint8x16_t pairs = vld1q_u8(w);
  return {vreinterpretq_s8_u8(vandq_u8(pairs, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(pairs, 4))};
}

static inline Dots dot(Dots dots, int8x16x2_t w, const int8_t *x) {
  for (int i = 0; i < 2; i++) {
    dots.upper = vdotq_s32(dots.upper, w.val[i], vld1q_s8(x + 16 * i));
    dots.lower = vdotq_s32(dots.lower, w.val[i], vld1q_s8(x + block + 16 * i));
  }
  return dots;
}

static inline int32x4_t total(Dots dots) { return vaddq_s32(vshlq_n_s32(dots.upper, 8), dots.lower); }

#include "packed_row.h"

} // namespace packed::dotprod
#pragma GCC pop_options

// Any other: products of 16 bits.
namespace packed::neon {

typedef float Floats __attribute__((vector_size(16)));
typedef int32x4_t Dots;
constexpr int weight_offset = 0;

static inline void store(int8_t *to, int i, int n) { reinterpret_cast<int16_t *>(to)[i] = static_cast<int16_t>(n); }

static inline uint8x16x2_t load(const uint8_t *w) { return {vld1q_u8(w), vld1q_u8(w + 16)}; }

static inline uint8x16x2_t unpack(const uint8_t *w) {
  uint8x16_t pairs = vld1q_u8(w);
  return {vandq_u8(pairs, vdupq_n_u8(15)), vshrq_n_u8(pairs, 4)};
}

static inline int32x4_t dot(int32x4_t dots, uint8x16x2_t w, const int8_t *x) {
  const int16_t *both = reinterpret_cast<const int16_t *>(x);
  for (int i = 0; i < 2; i++) {
    int16x8_t first = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(w.val[i]))), second = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(w.val[i])));
    int16x8_t x1 = vld1q_s16(both + 16 * i), x2 = vld1q_s16(both + 16 * i + 8);
    dots = vmlal_s16(dots, vget_low_s16(first), vget_low_s16(x1));
    dots = vmlal_s16(dots, vget_high_s16(first), vget_high_s16(x1));
    dots = vmlal_s16(dots, vget_low_s16(second), vget_low_s16(x2));
    dots = vmlal_s16(dots, vget_high_s16(second), vget_high_s16(x2));
  }
  return dots;
}

static inline int32x4_t total(int32x4_t dots) { return dots; }

#include "packed_row.h"

} // namespace packed::neon

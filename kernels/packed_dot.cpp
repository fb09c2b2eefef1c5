// Dot products of packed weights for each instruction set, and which of them this processor has.
#include "packed_dot.h"

#include <cmath>
#include <cstddef>

#if defined(__x86_64__)
#include "packed_x86.h"
#elif defined(__aarch64__)
#include "packed_arm.h"
#endif

// For processors without any of those.
namespace packed::plain {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Dots __attribute__((vector_size(16)));
struct Integers {
  int16_t at[block];
};
constexpr int weight_offset = 0;

static inline void store(int8_t *to, int i, int n) { reinterpret_cast<int16_t *>(to)[i] = static_cast<int16_t>(n); }

static inline Integers load(const uint8_t *w) {
  Integers integers;
  for (int i = 0; i < block; i++) integers.at[i] = w[i];
  return integers;
}

static inline Integers unpack(const uint8_t *w) {
  Integers integers;
  for (int i = 0; i < block / 2; i++) {
    integers.at[i] = w[i] & 15;
    integers.at[block / 2 + i] = w[i] >> 4;
  }
  return integers;
}

static inline Dots dot(Dots dots, const Integers &w, const int8_t *x) {
  const int16_t *integers = reinterpret_cast<const int16_t *>(x);
  for (int i = 0; i < block; i += 4)
    for (int lane = 0; lane < 4; lane++) dots[lane] += w.at[i + lane] * integers[i + lane];
  return dots;
}

static inline Dots total(Dots dots) { return dots; }

#include "packed_row.h"

} // namespace packed::plain

namespace packed {

std::vector<Kernel> kernels() {
  std::vector<Kernel> usable;
#if defined(__x86_64__)
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    usable.push_back({"VNNI", vnni::prepare, vnni::dot});
  if (has_avx2) usable.push_back({"AVX2", avx2::prepare, avx2::dot});
#elif defined(__aarch64__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) usable.push_back({"dotprod", dotprod::prepare, dotprod::dot});
  usable.push_back({"Neon", neon::prepare, neon::dot});
#endif
  usable.push_back({"plain", plain::prepare, plain::dot});
  return usable;
}

} // namespace packed

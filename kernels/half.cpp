// Products of a few rows of float32 with weights of float16 or bfloat16, for generating text. MLX converts the whole matrix to
// float32 for each of them; these convert one row of it at a time, in the cache. Sums are float32's.
#include "half.h"

#include <cstring>

#include "parts.h"
#include "primitive.h"
#include "rows.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

using namespace cpu_operations;

namespace {

using Widen = void(const uint16_t *from, int64_t n, float *to);

MULTIVERSION void widen_bfloat16(const uint16_t *from, int64_t n, float *to) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(to + i, &bits, sizeof bits);
  }
}

void widen_float16(const uint16_t *from, int64_t n, float *to) {
  for (int64_t i = 0; i < n; i++) {
    _Float16 number;
    std::memcpy(&number, from + i, sizeof number);
    to[i] = number;
  }
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void widen_float16_by_16(const uint16_t *from, int64_t n, float *to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i))));
  widen_float16(from + i, n - i, to + i);
}

__attribute__((target("avx,f16c"))) void widen_float16_by_8(const uint16_t *from, int64_t n, float *to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i))));
  widen_float16(from + i, n - i, to + i);
}

bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

Widen *widen_for(Dtype dtype) {
  if (dtype == bfloat16) return widen_bfloat16;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return widen_float16_by_16;
  if (has_f16c()) return widen_float16_by_8;
#endif
  return widen_float16;
}

MULTIVERSION void add_scaled(float *y, float by, const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] += by * x[i];
}

MULTIVERSION float dot(const float *x, const float *y, int64_t n) { return rows::dot(x, y, n); }

// `y = x W + b`, W [k, n] or, transposed, [n, k].
struct Product {
  bool transposed;
  int64_t rows, n, k;
  const float *x;
  const uint16_t *weight;
  const float *bias;
  float *y;
  Widen *widen;
  int parts;   // ranges of rows of W
  float *sums; // [parts, rows, n], unless transposed

  int64_t length() const { return transposed ? k : n; } // of a row of W
  int64_t edge(int part) const { return (transposed ? n : k) * part / parts; }
};

void multiply_part(const void *work, int part) {
  const Product &p = *static_cast<const Product *>(work);
  std::vector<float> wide(p.length());
  float *sums = p.sums + part * p.rows * p.n;
  if (!p.transposed) std::fill_n(sums, p.rows * p.n, 0.0f);
  for (int64_t i = p.edge(part); i < p.edge(part + 1); i++) {
    p.widen(p.weight + i * p.length(), p.length(), wide.data());
    for (int64_t row = 0; row < p.rows; row++) {
      if (p.transposed) p.y[row * p.n + i] = dot(p.x + row * p.k, wide.data(), p.k) + (p.bias ? p.bias[i] : 0);
      else add_scaled(sums + row * p.n, p.x[row * p.k + i], wide.data(), p.n);
    }
  }
}

// Parts depend on the size alone, so that the result does.
void multiply(Product p) {
  constexpr int64_t min_part = 1 << 14; // multiplications
  p.parts = std::clamp<int64_t>(p.n * p.k / min_part, 1, max_parts);
  std::vector<float> sums(p.transposed ? 0 : p.parts * p.rows * p.n);
  p.sums = sums.data();
  mlx_gpt_compute_parts({multiply_part, &p, p.parts}, 1);
  if (p.transposed) return;
  for (int64_t row = 0; row < p.rows; row++) {
    float *y = p.y + row * p.n;
    if (p.bias) std::memcpy(y, p.bias, p.n * sizeof(float));
    else std::fill_n(y, p.n, 0.0f);
    for (int part = 0; part < p.parts; part++) add_scaled(y, 1, p.sums + (part * p.rows + row) * p.n, p.n);
  }
}

// x, weight and, if there is one, bias -> y.
class Half : public CpuPrimitive {
 public:
  Half(Stream stream, bool transposed) : CpuPrimitive(stream), transposed(transposed) {}
  DEFINE_NAME(CpuHalf)

  bool is_equivalent(const Primitive &other) const override { return transposed == static_cast<const Half &>(other).transposed; }

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    const array &x = inputs[0], &weight = inputs[1];
    int64_t k = x.shape(-1), rows = x.size() / k, n = weight.shape(transposed ? 0 : 1);
    const float *bias = inputs.size() > 2 ? inputs[2].data<float>() : nullptr;
    Product p = {transposed, rows, n, k, x.data<float>(), weight.data<uint16_t>(), bias, allocate(outputs[0]), widen_for(weight.dtype())};
    cpu::get_command_encoder(stream()).dispatch([=]() { multiply(p); });
  }

 private:
  bool transposed;
};

} // namespace

std::optional<array> half_product(const array &x, const array &weight, const std::optional<array> &bias, bool transposed, Stream stream) {
  constexpr size_t few = 12;
  bool half = weight.dtype() == float16 || weight.dtype() == bfloat16;
  if (!half || weight.size() == 0 || !is_supported(stream, {&x}) || (bias && !is_supported(stream, {&*bias})) || x.size() / x.shape(-1) > few)
    return std::nullopt;
  Shape shape = x.shape();
  shape.back() = weight.shape(transposed ? 0 : 1);
  std::vector<array> inputs = {contiguous(x, false, stream), contiguous(weight, false, stream)};
  if (bias) inputs.push_back(contiguous(*bias, false, stream));
  return array(shape, float32, std::make_shared<Half>(stream, transposed), inputs);
}

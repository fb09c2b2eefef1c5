// `quantized_matmul` on the CPU: products of float32 with weights packed into 4 or 8 bits. MLX multiplies one number at a time, on
// one core. Here a few rows, which generating text has, are multiplied with the packed integers themselves (packed_dot.h); for many
// rows, parts of the weights are unpacked and multiplied by the BLAS.
#include "blas.h"
#include "packed_dot.h"
#include "parts.h"
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

const packed::Kernel &kernel() {
  static const packed::Kernel best = packed::kernels().front();
  return best;
}

// `y = x Wᵀ`, x [rows, k], W [n, k] packed.
struct Product {
  packed::Weights weights;
  int64_t rows, n;
  const float *x;
  float *y;
  const packed::Activations *prepared; // rows of x, where they are few
  int parts;

  int64_t edge(int part) const { return n * part / parts; } // where a part's rows of W begin
};

void multiply_packed_part(const void *work, int part) {
  const Product &p = *static_cast<const Product *>(work);
  for (int64_t i = p.edge(part); i < p.edge(part + 1); i++)
    for (int64_t row = 0; row < p.rows; row++) p.y[row * p.n + i] = kernel().dot(p.weights, i, p.prepared[row]);
}

MULTIVERSION void unpack_row(const packed::Weights &w, int64_t row, float *to) {
  const uint8_t *integers = w.integers + row * w.row_bytes();
  const float *scales = w.scales + row * w.groups(), *biases = w.biases + row * w.groups();
  for (int64_t g = 0; g < w.groups(); g++, to += w.group, integers += w.group * w.bits / 8) {
    float scale = scales[g], bias = biases[g];
    if (w.bits == 8) {
      for (int i = 0; i < w.group; i++) to[i] = scale * integers[i] + bias;
    } else {
      for (int i = 0; i < w.group / 2; i++) {
        to[2 * i] = scale * (integers[i] & 15) + bias;
        to[2 * i + 1] = scale * (integers[i] >> 4) + bias;
      }
    }
  }
}

void multiply_unpacked_part(const void *work, int part) {
  constexpr int64_t tile = 64; // rows of W, which stay in the cache until they are multiplied
  const Product &p = *static_cast<const Product *>(work);
  std::vector<float> unpacked(tile * p.weights.k);
  for (int64_t from = p.edge(part); from < p.edge(part + 1); from += tile) {
    int64_t count = std::min(tile, p.edge(part + 1) - from);
    for (int64_t i = 0; i < count; i++) unpack_row(p.weights, from + i, &unpacked[i * p.weights.k]);
    product(no_trans, trans, p.rows, count, p.weights.k, 1, p.x, p.weights.k, unpacked.data(), p.weights.k, 0, p.y + from, p.n);
  }
}

// Parts depend on the size alone, and each number of y is computed in the same way in all of them.
void multiply(Product p) {
  constexpr int64_t few = 12, min_part = 1 << 15; // multiplications
  p.parts = std::clamp<int64_t>(p.rows * p.n * p.weights.k / min_part, 1, max_parts);
  if (p.rows > few) return mlx_gpt_compute_parts({multiply_unpacked_part, &p, p.parts}, mlx_gpt_is_alone());
  std::vector<packed::Activations> prepared;
  for (int64_t i = 0; i < p.rows; i++) prepared.push_back(kernel().prepare(p.x + i * p.weights.k, p.weights));
  p.prepared = prepared.data();
  mlx_gpt_compute_parts({multiply_packed_part, &p, p.parts}, 1);
}

// x [.., k], integers, scales and biases -> y [.., n].
class Packed : public CpuPrimitive {
 public:
  Packed(Stream stream, int bits, int group) : CpuPrimitive(stream), bits(bits), group(group) {}
  DEFINE_NAME(CpuPacked)

  bool is_equivalent(const Primitive &other) const override {
    const auto &packed = static_cast<const Packed &>(other);
    return bits == packed.bits && group == packed.group;
  }

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    const array &x = inputs[0], &integers = inputs[1];
    int64_t k = x.shape(-1);
    packed::Weights weights = {k, bits, group, integers.data<uint8_t>(), inputs[2].data<float>(), inputs[3].data<float>()};
    Product p = {weights, static_cast<int64_t>(x.size()) / k, integers.shape(0), x.data<float>(), allocate(outputs[0])};
    cpu::get_command_encoder(stream()).dispatch([=]() { multiply(p); });
  }

  // Of x: the weights, as integers, have no gradient, and nothing asks for those of their scales.
  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &argnums,
                         const std::vector<array> &) override {
    for (int argnum : argnums)
      if (argnum != 0) throw std::runtime_error("packed weights have no gradient");
    return {quantized_matmul(cotangents[0], primals[1], primals[2], primals[3], false, group, bits, "affine", stream())};
  }

 private:
  int bits, group;
};

} // namespace

namespace mlx::core {

static Override<decltype(quantized_matmul)> replaced("quantized_matmul", "quantized_matmul", &quantized_matmul);

// Whether the integers are [n, k * bits / 32] and the other two [n, k / group]. All others are MLX's, to broadcast or to refuse.
static bool shapes_fit(const array &x, const array &w, const array &scales, const array &biases, int bits, int group) {
  if (x.ndim() < 1 || w.ndim() != 2 || w.dtype() != uint32 || x.shape(-1) % group != 0) return false;
  Shape groups = {w.shape(0), x.shape(-1) / group};
  return w.shape(1) == x.shape(-1) / 32 * bits && scales.shape() == groups && biases.shape() == groups;
}

array quantized_matmul(const array &x, const array &w, const array &scales, const std::optional<array> &biases, bool transpose,
                       std::optional<int> group_size, std::optional<int> bits, const std::string &mode, StreamOrDevice s) {
  Stream stream = to_stream(s);
  int group = group_size.value_or(0), width = bits.value_or(0);
  bool known = (group == 32 || group == 64 || group == 128) && (width == 4 || width == 8);
  if (!transpose || mode != "affine" || !biases || !known || !is_supported(stream, {&x, &scales, &*biases}) ||
      !shapes_fit(x, w, scales, *biases, width, group) || !replaced.use())
    return replaced.mlx()(x, w, scales, biases, transpose, group_size, bits, mode, s);
  Shape shape = x.shape();
  shape.back() = w.shape(0);
  auto whole = [&](const array &a) { return contiguous(a, false, stream); };
  return array(shape, float32, std::make_shared<Packed>(stream, width, group), {whole(x), whole(w), whole(scales), whole(*biases)});
}

} // namespace mlx::core

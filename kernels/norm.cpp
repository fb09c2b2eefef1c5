// `fast::layer_norm` and `fast::rms_norm` on the CPU. MLX's own are a dozen memory-bound operations in each direction; these
// process one row at a time, in the cache.
#include "mlx/fast.h"
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

// `centred`: layer norm; otherwise RMS norm.
struct Kind {
  bool centred;
  float epsilon;
  bool operator==(const Kind &) const = default;
};

// Normalises a row of x to mean square one; returns the scale.
inline float normalise(Kind kind, const float *x, int64_t n, float *to) {
  float mean = kind.centred ? rows::sum(x, n) / n : 0;
  for (int64_t i = 0; i < n; i++) to[i] = x[i] - mean;
  float scale = 1 / std::sqrt(rows::dot(to, to, n) / n + kind.epsilon);
  for (int64_t i = 0; i < n; i++) to[i] *= scale;
  return scale;
}

MULTIVERSION void forward(Kind kind, const float *x, int64_t count, int64_t n, const float *gain, const float *bias, float *y) {
  for (int64_t row = 0; row < count; row++, x += n, y += n) {
    normalise(kind, x, n, y);
    if (!gain) continue;
    for (int64_t i = 0; i < n; i++) y[i] = y[i] * gain[i] + bias[i];
  }
}

// `dx = scale (g - mean(g) - y mean(g y))` with g the gradient of the normalised row y.
MULTIVERSION void backward(Kind kind, const float *x, int64_t count, int64_t n, const float *gain, const float *dy, float *dx,
                                 float *dgain, float *dbias) {
  std::vector<float> y(n), g(n);
  if (gain) {
    std::fill_n(dgain, n, 0.0f);
    std::fill_n(dbias, n, 0.0f);
  }
  for (int64_t row = 0; row < count; row++, x += n, dy += n, dx += n) {
    float scale = normalise(kind, x, n, y.data());
    for (int64_t i = 0; i < n; i++) g[i] = gain ? dy[i] * gain[i] : dy[i];
    float mean = kind.centred ? rows::sum(g.data(), n) / n : 0, along = rows::dot(g.data(), y.data(), n) / n;
    for (int64_t i = 0; i < n; i++) dx[i] = scale * (g[i] - mean - y[i] * along);
    if (!gain) continue;
    for (int64_t i = 0; i < n; i++) dgain[i] += dy[i] * y[i];
    for (int64_t i = 0; i < n; i++) dbias[i] += dy[i];
  }
}

class NormPrimitive : public CpuPrimitive {
 public:
  NormPrimitive(Stream stream, Kind kind) : CpuPrimitive(stream), kind(kind) {}
  bool is_equivalent(const Primitive &other) const override { return kind == static_cast<const NormPrimitive &>(other).kind; }

 protected:
  Kind kind;
};

// dy and x, [.., n] -> dx; with a gain, also dgain and dbias, [n].
class NormBackward : public NormPrimitive {
 public:
  using NormPrimitive::NormPrimitive;
  DEFINE_NAME(CpuNormBackward)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    bool has_gain = inputs.size() == 3;
    int64_t n = inputs[1].shape(-1), count = inputs[1].size() / n;
    const float *dy = inputs[0].data<float>(), *x = inputs[1].data<float>(), *gain = has_gain ? inputs[2].data<float>() : nullptr;
    float *dx = allocate(outputs[0]), *dgain = has_gain ? allocate(outputs[1]) : nullptr, *dbias = has_gain ? allocate(outputs[2]) : nullptr;
    cpu::get_command_encoder(stream()).dispatch([=, kind = kind]() { backward(kind, x, count, n, gain, dy, dx, dgain, dbias); });
  }
};

// x [.., n] -> normalised x; with gain and bias [n], scaled and shifted.
class Norm : public NormPrimitive {
 public:
  using NormPrimitive::NormPrimitive;
  DEFINE_NAME(CpuNorm)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    bool has_gain = inputs.size() == 3;
    int64_t n = inputs[0].shape(-1), count = inputs[0].size() / n;
    const float *x = inputs[0].data<float>(), *gain = has_gain ? inputs[1].data<float>() : nullptr,
                *bias = has_gain ? inputs[2].data<float>() : nullptr;
    float *y = allocate(outputs[0]);
    cpu::get_command_encoder(stream()).dispatch([=, kind = kind]() { forward(kind, x, count, n, gain, bias, y); });
  }

  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &argnums,
                         const std::vector<array> &) override {
    std::vector<array> inputs = {contiguous(cotangents[0], false, stream()), primals[0]};
    std::vector<Shape> shapes;
    for (const array &primal : primals) shapes.push_back(primal.shape());
    if (primals.size() == 3) inputs.push_back(primals[1]);
    return select_argnums(array::make_arrays(shapes, std::vector<Dtype>(shapes.size(), float32), std::make_shared<NormBackward>(stream(), kind), inputs),
                  argnums);
  }
};

array norm(const array &x, Kind kind, std::vector<array> gain_and_bias, Stream stream) {
  std::vector<array> inputs = {contiguous(x, false, stream)};
  for (const array &a : gain_and_bias) inputs.push_back(contiguous(a, false, stream));
  return array(x.shape(), float32, std::make_shared<Norm>(stream, kind), inputs);
}

} // namespace

namespace mlx::core::fast {

static Override<decltype(layer_norm)> replaced_layer_norm("layer_norm", "fast::layer_norm", &layer_norm);
static Override<decltype(rms_norm)> replaced_rms_norm("rms_norm", "fast::rms_norm", &rms_norm);

array layer_norm(const array &x, const std::optional<array> &weight, const std::optional<array> &bias, float epsilon, StreamOrDevice s) {
  Stream stream = to_stream(s);
  if (weight && bias && x.ndim() > 0 && is_supported(stream, {&x, &*weight, &*bias}) && weight->shape() == Shape{x.shape(-1)} &&
      bias->shape() == weight->shape() && replaced_layer_norm.use())
    return norm(x, {true, epsilon}, {*weight, *bias}, stream);
  return replaced_layer_norm.mlx()(x, weight, bias, epsilon, s);
}

array rms_norm(const array &x, const std::optional<array> &weight, float epsilon, StreamOrDevice s) {
  Stream stream = to_stream(s);
  if (!weight && x.ndim() > 0 && is_supported(stream, {&x}) && replaced_rms_norm.use()) return norm(x, {false, epsilon}, {}, stream);
  return replaced_rms_norm.mlx()(x, weight, epsilon, s);
}

} // namespace mlx::core::fast

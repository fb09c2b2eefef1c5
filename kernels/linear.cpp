// Linear layers on the CPU, `addmm(bias, x, weight)` and `matmul(x, transpose(weight))`, as one operation in each direction. MLX
// copies the bias into each row one number at a time, sums its gradient in a separate operation, and returns the gradient of a
// transposed weight as a transposed view, which later operations read slowly.
#include <cstring>

#include "blas.h"
#include "half.h"
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

// `y = x W + b`, x [.., k], W [k, n] or, transposed, [n, k].
struct Sizes {
  int64_t rows, n, k;
  bool transposed;

  void forward(const float *x, const float *w, const float *b, float *y) const {
    for (int64_t i = 0; b && i < rows; i++) std::memcpy(y + i * n, b, n * sizeof(float));
    product(no_trans, transposed ? trans : no_trans, rows, n, k, 1, x, k, w, transposed ? k : n, b ? 1 : 0, y, n);
  }

  void backward_x(const float *dy, const float *w, float *dx) const {
    product(no_trans, transposed ? no_trans : trans, rows, k, n, 1, dy, n, w, transposed ? k : n, 0, dx, k);
  }

  void backward_weight(const float *dy, const float *x, float *dw) const {
    if (transposed) product(trans, no_trans, n, k, rows, 1, dy, n, x, k, 0, dw, k);
    else product(trans, no_trans, k, n, rows, 1, x, k, dy, n, 0, dw, n);
  }
};

MULTIVERSION void add_rows(const float *x, int64_t count, int64_t n, float *sum) {
  std::fill_n(sum, n, 0.0f);
  for (int64_t row = 0; row < count; row++, x += n)
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

class LinearPrimitive : public CpuPrimitive {
 public:
  LinearPrimitive(Stream stream, bool transposed, std::vector<int> argnums = {})
      : CpuPrimitive(stream), transposed(transposed), argnums(std::move(argnums)) {}

  bool is_equivalent(const Primitive &other) const override {
    const auto &linear = static_cast<const LinearPrimitive &>(other);
    return transposed == linear.transposed && argnums == linear.argnums;
  }

 protected:
  bool transposed;
  std::vector<int> argnums; // gradients to compute: 0 for x, 1 for the weight, 2 for the bias

  Sizes sizes(const array &x, const array &weight) const {
    int64_t k = x.shape(-1);
    return {static_cast<int64_t>(x.size()) / k, weight.shape(transposed ? 0 : 1), k, transposed};
  }
};

// x, weight and dy -> the requested gradients.
class LinearBackward : public LinearPrimitive {
 public:
  using LinearPrimitive::LinearPrimitive;
  DEFINE_NAME(CpuLinearBackward)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    Sizes sizes = this->sizes(inputs[0], inputs[1]);
    const float *x = inputs[0].data<float>(), *w = inputs[1].data<float>(), *dy = inputs[2].data<float>();
    float *gradients[3] = {};
    for (size_t i = 0; i < argnums.size(); i++) gradients[argnums[i]] = allocate(outputs[i]);
    cpu::get_command_encoder(stream()).dispatch([=, dx = gradients[0], dw = gradients[1], db = gradients[2]]() {
      if (dx) sizes.backward_x(dy, w, dx);
      if (dw) sizes.backward_weight(dy, x, dw);
      if (db) add_rows(dy, sizes.rows, sizes.n, db);
    });
  }
};

// x, weight and, if there is one, bias -> y.
class Linear : public LinearPrimitive {
 public:
  using LinearPrimitive::LinearPrimitive;
  DEFINE_NAME(CpuLinear)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    Sizes sizes = this->sizes(inputs[0], inputs[1]);
    const float *x = inputs[0].data<float>(), *w = inputs[1].data<float>(), *b = inputs.size() > 2 ? inputs[2].data<float>() : nullptr;
    float *y = allocate(outputs[0]);
    cpu::get_command_encoder(stream()).dispatch([=]() { sizes.forward(x, w, b, y); });
  }

  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &argnums,
                         const std::vector<array> &) override {
    std::vector<Shape> shapes;
    for (int argnum : argnums) shapes.push_back(primals[argnum].shape());
    return array::make_arrays(shapes, std::vector<Dtype>(shapes.size(), float32),
                              std::make_shared<LinearBackward>(stream(), transposed, argnums),
                              {primals[0], primals[1], contiguous(cotangents[0], false, stream())});
  }
};

array linear(const array &x, const array &weight, const std::optional<array> &bias, bool transposed, Stream stream) {
  Shape shape = x.shape();
  shape.back() = weight.shape(transposed ? 0 : 1);
  std::vector<array> inputs = {contiguous(x, false, stream), contiguous(weight, false, stream)};
  if (bias) inputs.push_back(contiguous(*bias, false, stream));
  return array(shape, float32, std::make_shared<Linear>(stream, transposed), inputs);
}

} // namespace

namespace mlx::core {

static Override<decltype(addmm)> replaced_addmm("addmm", "addmm", &addmm);
static Override<decltype(matmul)> replaced_matmul("matmul", "matmul", &matmul);

array addmm(array c, array a, array b, const float &alpha, const float &beta, StreamOrDevice s) {
  Stream stream = to_stream(s);
  bool is_linear = alpha == 1 && beta == 1 && a.ndim() >= 2 && b.ndim() == 2 && a.shape(-1) == b.shape(0) && c.shape() == Shape{b.shape(1)};
  if (is_linear && is_supported(stream, {&a, &b, &c}) && replaced_addmm.use()) return linear(a, b, c, false, stream);
  if (auto y = is_linear && replaced_addmm.enabled ? half_product(a, b, c, false, stream) : std::nullopt) return *y;
  return replaced_addmm.mlx()(std::move(c), std::move(a), std::move(b), alpha, beta, s);
}

array matmul(const array &a, const array &b, StreamOrDevice s) {
  Stream stream = to_stream(s);
  bool transposed = b.ndim() == 2 && b.has_primitive() && std::strcmp(b.primitive().name(), "Transpose") == 0;
  if (transposed && a.ndim() >= 2 && a.shape(-1) == b.shape(0)) {
    const array &weight = b.inputs()[0];
    // The transpose is known by its shape alone: of a square matrix, one that swaps no axes has the same.
    bool is_linear = weight.shape() == Shape{b.shape(1), b.shape(0)} && weight.shape() != b.shape();
    if (is_linear && is_supported(stream, {&a, &b}) && replaced_matmul.use()) return linear(a, weight, std::nullopt, true, stream);
    if (auto y = is_linear && replaced_matmul.enabled ? half_product(a, weight, std::nullopt, true, stream) : std::nullopt) return *y;
  }
  return replaced_matmul.mlx()(a, b, s);
}

} // namespace mlx::core

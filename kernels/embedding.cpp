// `take` of rows on the CPU, the lookup of an embedding. MLX accumulates the gradients in a matrix of zeros and then copies it:
// at GPT-2's vocabulary, the two are a third of a gigabyte. This one accumulates in the result.
#include <cstring>

#include "primitive.h"

using namespace cpu_operations;

namespace {

// The index of a row; negative ids count from the end, as in MLX.
int64_t row_of(int32_t id, int64_t rows) { return id < 0 ? id + rows : id; }

class RowsPrimitive : public CpuPrimitive {
 public:
  using CpuPrimitive::CpuPrimitive;
  DEFINE_DEFAULT_IS_EQUIVALENT()
};

// ids [..] and the gradients of their rows [.., n] -> gradient of the matrix [rows, n].
class RowsBackward : public RowsPrimitive {
 public:
  using RowsPrimitive::RowsPrimitive;
  DEFINE_NAME(CpuRowsBackward)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    int64_t count = inputs[0].size(), rows = outputs[0].shape(0), n = outputs[0].shape(1);
    const int32_t *ids = inputs[0].data<int32_t>();
    const float *gradients = inputs[1].data<float>();
    float *to = allocate(outputs[0]);
    cpu::get_command_encoder(stream()).dispatch([=]() {
      std::memset(to, 0, rows * n * sizeof(float));
      for (int64_t i = 0; i < count; i++) {
        float *sum = to + row_of(ids[i], rows) * n;
        for (int64_t j = 0; j < n; j++) sum[j] += gradients[i * n + j];
      }
    });
  }
};

// A matrix [rows, n] and ids [..] -> rows [.., n].
class Rows : public RowsPrimitive {
 public:
  using RowsPrimitive::RowsPrimitive;
  DEFINE_NAME(CpuRows)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    int64_t rows = inputs[0].shape(0), n = inputs[0].shape(1), count = inputs[1].size();
    const float *matrix = inputs[0].data<float>();
    const int32_t *ids = inputs[1].data<int32_t>();
    float *to = allocate(outputs[0]);
    cpu::get_command_encoder(stream()).dispatch([=]() {
      for (int64_t i = 0; i < count; i++) std::memcpy(to + i * n, matrix + row_of(ids[i], rows) * n, n * sizeof(float));
    });
  }

  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &argnums,
                         const std::vector<array> &) override {
    array of_matrix(primals[0].shape(), float32, std::make_shared<RowsBackward>(stream()),
                    {primals[1], contiguous(cotangents[0], false, stream())});
    std::vector<array> asked;
    for (int argnum : argnums) asked.push_back(argnum == 0 ? of_matrix : zeros_like(primals[1], stream()));
    return asked;
  }
};

} // namespace

namespace mlx::core {

// Fails to compile if MLX's header no longer has this `take`, or an ambiguous one.
using Take = array(const array &, const array &, int, StreamOrDevice);
static Override<Take> replaced("take", "take", &take);

array take(const array &a, const array &indices, int axis, StreamOrDevice s) {
  Stream stream = to_stream(s);
  bool whole = indices.dtype() == int32 || indices.dtype() == uint32;
  if (is_supported(stream, {&a}) && a.ndim() == 2 && axis == 0 && whole && indices.size() > 0 &&
      replaced.use()) {
    Shape shape = indices.shape();
    shape.push_back(a.shape(1));
    return array(shape, float32, std::make_shared<Rows>(stream),
                 {contiguous(a, false, stream), contiguous(astype(indices, int32, stream), false, stream)});
  }
  return replaced.mlx()(a, indices, axis, s);
}

} // namespace mlx::core

// `logsumexp` over the last axis on the CPU, for the loss. At GPT-2's vocabulary of 50257 the logits are the largest array of a
// step. MLX computes exponentials one at a time, in both directions; these use vector instructions, and logits that are no
// longer needed are overwritten with their gradients.
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

MULTIVERSION float log_sum_of_exponentials(const float *x, int64_t n) {
  constexpr int64_t part = 1024; // of a row, which stays in the cache until its exponentials are summed
  float largest = rows::max(x, n), sum = 0, exponentials[part];
  for (int64_t i = 0; i < n; i += part) {
    int64_t m = std::min(part, n - i);
    for (int64_t j = 0; j < m; j++) exponentials[j] = rows::exp(x[i + j] - largest);
    sum += rows::sum(exponentials, m);
  }
  return largest + std::log(sum);
}

MULTIVERSION void softmax_times(const float *x, int64_t n, float log_sum, float by, float *to) {
  for (int64_t i = 0; i < n; i++) to[i] = rows::exp(x[i] - log_sum) * by;
}

// x [.., n], its log-sum-exps and their gradients -> gradient of x.
class CpuLogSumExpBackward : public CpuPrimitive {
 public:
  using CpuPrimitive::CpuPrimitive;
  DEFINE_NAME(CpuLogSumExpBackward)
  DEFINE_DEFAULT_IS_EQUIVALENT()

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    array &gradients = outputs[0];
    if (inputs[0].is_donatable()) gradients.copy_shared_buffer(inputs[0]);
    else allocate(gradients);
    int64_t n = inputs[0].shape(-1), rows = inputs[0].size() / n;
    const float *x = inputs[0].data<float>(), *log_sums = inputs[1].data<float>(), *by = inputs[2].data<float>();
    cpu::get_command_encoder(stream()).dispatch([=, to = gradients.data<float>()]() {
      for (int64_t i = 0; i < rows; i++) softmax_times(x + i * n, n, log_sums[i], by[i], to + i * n);
    });
  }
};

// x [.., n] -> log-sum-exps [..].
class CpuLogSumExp : public CpuPrimitive {
 public:
  using CpuPrimitive::CpuPrimitive;
  DEFINE_NAME(CpuLogSumExp)
  DEFINE_DEFAULT_IS_EQUIVALENT()

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    float *to = allocate(outputs[0]);
    int64_t n = inputs[0].shape(-1), rows = inputs[0].size() / n;
    const float *x = inputs[0].data<float>();
    cpu::get_command_encoder(stream()).dispatch([=]() {
      for (int64_t i = 0; i < rows; i++) to[i] = log_sum_of_exponentials(x + i * n, n);
    });
  }

  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &,
                         const std::vector<array> &outputs) override {
    return {array(primals[0].shape(), float32, std::make_shared<CpuLogSumExpBackward>(stream()),
                  {primals[0], outputs[0], contiguous(cotangents[0], false, stream())})};
  }
};

} // namespace

namespace mlx::core {

// Fails to compile if MLX's header no longer has this `logsumexp`, or an ambiguous one.
using OverOneAxis = array(const array &, int, bool, StreamOrDevice);
static Override<OverOneAxis> replaced("logsumexp", "logsumexp", &logsumexp);

array logsumexp(const array &a, int axis, bool keepdims, StreamOrDevice s) {
  Stream stream = to_stream(s);
  int last = a.ndim() - 1;
  if (!is_supported(stream, {&a}) || last < 0 || (axis != -1 && axis != last) || !replaced.use()) return replaced.mlx()(a, axis, keepdims, s);
  Shape shape(a.shape().begin(), a.shape().end() - 1);
  array sums(shape, float32, std::make_shared<CpuLogSumExp>(stream), {contiguous(a, false, stream)});
  return keepdims ? expand_dims(sums, -1, stream) : sums;
}

} // namespace mlx::core

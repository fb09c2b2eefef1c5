// Base class of this folder's operations, which MLX evaluates and differentiates like its own.
#pragma once

#include <vector>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/utils.h"
#include "override.h"

namespace cpu_operations {

using namespace mlx::core;

class CpuPrimitive : public Primitive {
 public:
  using Primitive::Primitive;
  void eval_gpu(const std::vector<array> &, std::vector<array> &) override { throw std::runtime_error("made for a CPU"); }
};

// Selects the gradients of the requested arguments.
inline std::vector<array> select_argnums(const std::vector<array> &all, const std::vector<int> &argnums) {
  std::vector<array> selected;
  for (int argnum : argnums) selected.push_back(all[argnum]);
  return selected;
}

// Allocates a contiguous array.
inline float *allocate(array &a) {
  a.set_data(allocator::malloc(a.nbytes()));
  return a.data<float>();
}

// Whether the stream is a CPU's and all arrays are float32 and not empty.
inline bool is_supported(const Stream &stream, std::initializer_list<const array *> arrays) {
  bool supported = stream.device == Device::cpu;
  for (const array *a : arrays) supported = supported && a->dtype() == float32 && a->size() > 0;
  return supported;
}

} // namespace cpu_operations

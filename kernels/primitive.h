// What this folder's operations are to MLX, which evaluates and differentiates them as it does its own.
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

// Those of all gradients that a caller asked for, by the numbers of the arguments.
inline std::vector<array> chosen(const std::vector<array> &all, const std::vector<int> &argnums) {
  std::vector<array> asked;
  for (int argnum : argnums) asked.push_back(all[argnum]);
  return asked;
}

inline float *allocate(array &a) {
  a.set_data(allocator::malloc(a.nbytes()));
  return a.data<float>();
}

inline bool is_ours(const Stream &stream, std::initializer_list<const array *> arrays) {
  bool ours = stream.device == Device::cpu;
  for (const array *a : arrays) ours = ours && a->dtype() == float32 && a->size() > 0;
  return ours;
}

} // namespace cpu_operations

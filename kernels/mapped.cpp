// Arrays over memory that is not MLX's, such as a mapped file. `array` has a constructor for them, which copies on a CPU.
#include <cstring>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/c/array.h"

using namespace mlx::core;

namespace {

// MLX's CPU allocator keeps a buffer's size in front of its data, and looks there before it shares or reuses one.
bool has_size_in_front() {
  constexpr size_t bytes = 64;
  allocator::Buffer probe = allocator::malloc(bytes);
  bool in_front = static_cast<size_t *>(probe.raw_ptr()) == static_cast<size_t *>(probe.ptr()) + 1 && *static_cast<size_t *>(probe.ptr()) == bytes;
  allocator::free(probe);
  return in_front;
}

} // namespace

// An array of 32-bit (`dtype` MLX_UINT32 or MLX_FLOAT32) or 16-bit numbers (MLX_FLOAT16, MLX_BFLOAT16) over `data`, which must be
// writable, as must be the sizeof(size_t) bytes before it, which are overwritten. MLX calls `release(owner)` when it no longer needs the memory. 0
// where this MLX has other arrays, as on a GPU: nothing is taken then.
extern "C" int mlx_gpt_array_over(mlx_array *to, void *data, const int *shape, int dimensions, mlx_dtype dtype, void *owner,
                                  void (*release)(void *)) {
  static const bool possible = has_size_in_front();
  if (!possible) return 0;
  Dtype type = dtype == MLX_UINT32 ? uint32 : dtype == MLX_FLOAT32 ? float32 : dtype == MLX_FLOAT16 ? float16 : bfloat16;
  char *front = static_cast<char *>(data) - sizeof(size_t);
  *to = mlx_array{new array(allocator::Buffer(front), Shape(shape, shape + dimensions), type, [=](allocator::Buffer) { release(owner); })};
  size_t bytes = static_cast<array *>(to->ctx)->nbytes();
  std::memcpy(front, &bytes, sizeof bytes); // need not be aligned
  return 1;
}

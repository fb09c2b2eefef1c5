// NVIDIA's driver, which is opened when the program starts instead of when it is loaded.
#pragma once

#include <cstddef>
#include <cstdint>

// The driver's functions that MLX's library calls, by their binary interface; the wheels don't include the types.
namespace driver {

using Result = int; // CUresult
constexpr Result success = 0;
using Handle = void *; // CUmodule, CUfunction, CUgraph and others

// CUDA_KERNEL_NODE_PARAMS_v2
struct KernelNode {
  Handle function;
  unsigned grid[3], block[3], shared_memory;
  void **arguments, **extra;
  Handle kernel, context;
};

// A function of the driver. Ends the process with a one-line error if it is missing.
void *find(const char *name);

// Calls the driver's function, not this program's of the same name.
template <typename... Arguments>
Result call(const char *name, void *&found, Arguments... arguments) {
  if (!found) found = find(name);
  return reinterpret_cast<Result (*)(Arguments...)>(found)(arguments...);
}

} // namespace driver

// Each call site has its own pointer, looked up once.
#define DRIVER(name, ...)                   \
  ([&] {                                    \
    static void *found;                     \
    return driver::call(name, found, __VA_ARGS__); \
  }())

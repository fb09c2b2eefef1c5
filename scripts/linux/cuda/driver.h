// NVIDIA's driver, which is found when the program starts and not when it is loaded.
#pragma once

#include <cstddef>
#include <cstdint>

// What MLX's library calls of the driver, by the driver's binary interface, whose types the wheels don't bring.
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

// A function of the driver's. One that it lacks ends the process with a line that says so.
void *find(const char *name);

// Calls the driver's own, whatever this program has by the same name.
template <typename... Arguments>
Result call(const char *name, void *&found, Arguments... arguments) {
  if (!found) found = find(name);
  return reinterpret_cast<Result (*)(Arguments...)>(found)(arguments...);
}

} // namespace driver

// Each place has its own pointer, looked up once.
#define DRIVER(name, ...)                   \
  ([&] {                                    \
    static void *found;                     \
    return driver::call(name, found, __VA_ARGS__); \
  }())

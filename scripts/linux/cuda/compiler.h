// Compiles single kernels with NVRTC, NVIDIA's run-time compiler.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace compiler {

// MLX's input to NVRTC for a module of kernels.
struct Source {
  std::string text;
  std::map<std::string, std::string> headers; // by the names that they are included by
  std::vector<std::string> options;
};

struct Kernel {
  std::string symbol;  // of the kernel in the code
  std::string code;    // for the GPU that the options name
  std::string problem; // what the compiler says of a source that does not compile; else empty
};

// The kernel of that name, an expression like `name<uint32_t, 4>`.
Kernel compile(const Source &source, const std::string &name);

// NVRTC's version, as `13.0`.
std::string version();

} // namespace compiler

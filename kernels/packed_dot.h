// Dot products of rows of packed integers, MLX's affine format of 4 and 8 bits, with rows of float32. Each instruction set has its
// own; the processor's best is chosen at run time.
#pragma once

#include <cstdint>
#include <vector>

namespace packed {

constexpr int block = 32; // numbers that are multiplied at a time; a group has 1, 2 or 4 blocks

// A matrix [.., k]: each weight is `scale * q + bias`, with q of 4 or 8 bits and a scale and a bias for each group along a row.
struct Weights {
  int64_t k;
  int bits, group;
  const uint8_t *integers;
  const float *scales, *biases;

  int64_t groups() const { return k / group; }
  int64_t row_bytes() const { return k * bits / 8; }
};

// A row of float32 as integers of 16 bits with a scale for each group: an error of at most 2^-16 of the group's largest. 8 bits, as
// in llama.cpp, would be no faster, since weights come from memory, and changes losses.
struct Activations {
  std::vector<int8_t> integers; // 2 bytes each, in the order that the instruction set wants
  std::vector<float> scales;    // by group
  std::vector<float> sums;      // of the numbers, by group
};

// Dot products by one instruction set.
struct Kernel {
  const char *name;
  Activations (*prepare)(const float *x, const Weights &weights);
  float (*dot)(const Weights &weights, int64_t row, const Activations &x);
};

// Those that this processor can run, the best first.
std::vector<Kernel> kernels();

} // namespace packed

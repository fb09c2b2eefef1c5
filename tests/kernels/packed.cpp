// Compares every instruction set of kernels/packed_dot.cpp that this processor can run with float64. Prints their names.
#include "packed_dot.h"

#include <cmath>
#include <cstdio>
#include <random>

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  int wrong = 0;
  for (const packed::Kernel &kernel : packed::kernels()) {
    std::puts(kernel.name);
    for (int bits : {4, 8})
      for (int group : {32, 64, 128})
        for (int64_t k : {group, 3 * group, 24 * group}) {
          const int64_t rows = 5;
          std::vector<uint8_t> integers(rows * k * bits / 8);
          std::vector<float> scales(rows * k / group), biases(scales.size()), x(k);
          for (auto &byte : integers) byte = random();
          for (auto &scale : scales) scale = 0.01f * normal(random);
          for (auto &bias : biases) bias = normal(random);
          // Groups of very different sizes, and one of zeros.
          for (int64_t i = 0; i < k; i++) x[i] = i / group == 1 ? 0 : normal(random) * std::exp2(i / group % 7 * 3);
          x[k - 1] = -1e6f;
          packed::Weights weights = {k, bits, group, integers.data(), scales.data(), biases.data()};
          packed::Activations prepared = kernel.prepare(x.data(), weights);
          for (int64_t row = 0; row < rows; row++) {
            double expected = 0, bound = 0;
            for (int64_t i = 0; i < k; i++) {
              int byte = integers[(row * k + i) * bits / 8], q = bits == 8 ? byte : i % 2 ? byte >> 4 : byte & 15;
              int64_t g = (row * k + i) / group;
              double weight = double(scales[g]) * q + biases[g];
              float largest = 0;
              for (int64_t j = i / group * group; j < (i / group + 1) * group; j++) largest = std::fmax(largest, std::fabs(x[j]));
              expected += weight * x[i];
              // Activations are rounded to 16 bits of their group's largest; sums are float32's.
              bound += std::fabs(weight) * largest / 65278 + 1e-6 * (std::fabs(scales[g]) * q + std::fabs(biases[g])) * std::fabs(x[i]);
            }
            double error = std::fabs(kernel.dot(weights, row, prepared) - expected);
            if (!(error <= bound)) {
              std::printf("%s, %d bits, groups of %d, k %ld: off by %g, more than %g\n", kernel.name, bits, group, long(k), error, bound);
              wrong = 1;
            }
          }
          // What is not finite stays so.
          x[0] = INFINITY;
          wrong |= std::isfinite(kernel.dot(weights, 0, kernel.prepare(x.data(), weights)));
        }
  }
  return wrong;
}

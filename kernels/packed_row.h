// Included by packed_x86.h and packed_arm.h for each instruction set, in its namespace, which defines
//   Integers load(bytes), unpack(bytes)     32 weights of 8 bits, of 4 bits
//   Dots dot(dots, integers, x)             adds their products with a block of activations, in several lanes
//   total(dots)                             the sum of the lanes' products, in a vector
//   weight_offset                           what `load` subtracts from weights
//   store(to, i, n)                         integer number i of a block of activations
// No `#pragma once`.

static inline void prepare_group(const float *x, int n, int bits, int8_t *integers, float *scale, float *sum) {
  float largest = 0, not_finite = 0;
  for (int i = 0; i < n; i++) {
    largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
    not_finite += x[i] * 0;
  }
  int total = 0;
  float inverse = largest > 0 && not_finite == 0 ? 32639 / largest : 0; // 32639 is 127 * 256 + 127: halves of 8 bits
  for (int i = 0; i < n; i++) {
    int integer = inverse == 0 ? 0 : static_cast<int>(std::rint(x[i] * inverse));
    total += integer;
    // 4-bit weights are unpacked into those of even places, then those of odd ones.
    int place = i % block;
    store(integers + i / block * block * 2, bits == 8 ? place : place / 2 + place % 2 * (block / 2), integer);
  }
  *scale = largest / 32639 + not_finite;
  *sum = *scale * total;
}

static Activations prepare(const float *x, const Weights &weights) {
  Activations prepared = {std::vector<int8_t>(2 * weights.k), std::vector<float>(weights.groups()), std::vector<float>(weights.groups())};
  for (int64_t g = 0; g < weights.groups(); g++) {
    int64_t at = g * weights.group;
    prepare_group(x + at, weights.group, weights.bits, prepared.integers.data() + 2 * at, &prepared.scales[g], &prepared.sums[g]);
  }
  return prepared;
}

static inline __attribute__((always_inline)) float dot_of(int bits, const Weights &weights, int64_t row, const Activations &x) {
  const uint8_t *w = weights.integers + row * weights.row_bytes();
  const int8_t *integers = x.integers.data();
  const float *scales = weights.scales + row * weights.groups(), *biases = weights.biases + row * weights.groups();
  Floats sum = {};
  float of_biases = 0;
  for (int64_t g = 0; g < weights.groups(); g++) {
    Dots dots = {};
    for (int i = 0; i < weights.group; i += block, w += block * bits / 8, integers += 2 * block)
      dots = dot(dots, bits == 8 ? load(w) : unpack(w), integers);
    sum += __builtin_convertvector(total(dots), Floats) * (scales[g] * x.scales[g]);
    of_biases += (biases[g] + (bits == 8 ? weight_offset : 0) * scales[g]) * x.sums[g];
  }
  float lanes = 0;
  for (size_t i = 0; i < sizeof sum / sizeof(float); i++) lanes += sum[i];
  return lanes + of_biases;
}

static float dot(const Weights &weights, int64_t row, const Activations &x) {
  return weights.bits == 8 ? dot_of(8, weights, row, x) : dot_of(4, weights, row, x);
}

// Products of float32 matrices with contiguous rows, dispatched by blas.c.
#pragma once

#include <cstdint>

enum Order { no_trans = 111, trans = 112 }; // cblas.h

extern "C" void mlx_gpt_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                              const float *b, int ldb, float beta, float *c, int ldc);

// C [m, n] `= alpha A B + beta C`, with A [m, k] and B [k, n], or their transposes; lda, ldb and ldc are row strides.
inline void product(Order order_a, Order order_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                    int64_t ldb, float beta, float *c, int64_t ldc) {
  mlx_gpt_sgemm(101, order_a, order_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

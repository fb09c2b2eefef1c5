// Dispatches matrix products of MLX and this folder to OpenBLAS; a row times a matrix, and large products, on all cores.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "override.h"
#include "parts.h"

enum { row_major = 101, no_transpose = 111, transpose = 112 }; // cblas.h

typedef void gemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                  int ldb, float beta, float *c, int ldc);
typedef void gemv(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x, int incx, float beta,
                  float *y, int incy);

void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc);

static gemm *product;
static gemv *times_vector;
static struct override replaced = {.name = "cblas_sgemm", .function = "cblas_sgemm"};

// Work is divided among cores here, and by the program, which has a thread per core. With OpenBLAS's own threads in addition,
// threads wait for each other: a step of the nano preset on two cores takes twice as long.
__attribute__((constructor)) static void find_openblas(void) {
  mlx_gpt_register(&replaced, (void *)cblas_sgemm);
  product = (gemm *)replaced.original;
  times_vector = (gemv *)mlx_gpt_find("cblas_sgemv", "cblas_sgemv");
  void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_NEXT, "openblas_set_num_threads");
  if (set_threads && !getenv("OPENBLAS_NUM_THREADS")) set_threads(1);
}

// A row times a matrix, `y = alpha x B + beta y`. B is [k, n], or [n, k] if transposed.
struct row_product {
  int transposed, n, k;
  float alpha;
  const float *x;
  int step;
  const float *b;
  int ldb;
  float beta;
  float *y;
  // A part is a range of rows of B, so that memory is read sequentially. The partition depends only on the size, so that the
  // result does not depend on which thread computes which part.
  int parts;
  float *sums; // [parts, n], each part's contribution to y, unless B is transposed
};

static void compute_row_part(const void *row, int part) {
  const struct row_product *p = row;
  int64_t rows = p->transposed ? p->n : p->k, from = rows * part / p->parts, to = rows * (part + 1) / p->parts;
  const float *b = p->b + from * p->ldb;
  if (p->transposed) times_vector(row_major, no_transpose, to - from, p->k, p->alpha, b, p->ldb, p->x, p->step, p->beta, p->y + from, 1);
  else times_vector(row_major, transpose, to - from, p->n, p->alpha, b, p->ldb, p->x + from * p->step, p->step, 0, p->sums + (int64_t)part * p->n, 1);
}

static void add_sums(const struct row_product *p) {
  for (int i = 0; i < p->n; i++) {
    float sum = p->beta == 0 ? 0 : p->beta * p->y[i];
    for (int part = 0; part < p->parts; part++) sum += p->sums[(int64_t)part * p->n + i];
    p->y[i] = sum;
  }
}

// A product of large matrices, `C = alpha A B + beta C`, with C [m, n].
struct large_product {
  int transpose_a, transpose_b, m, n, k;
  float alpha;
  const float *a;
  int lda;
  const float *b;
  int ldb;
  float beta;
  float *c;
  int ldc;
  int parts; // of the longer side of C
};

// One part per core. Every part packs the shorter operand again, so parts must be long. Where parts begin affects rounding;
// their number therefore depends only on the size and on mlx_gpt_cores(): the CPU affinity and OPENBLAS_NUM_THREADS.
static int large_parts(int longer_side) {
  enum { min_part = 192 };
  int most = longer_side / min_part, cores = mlx_gpt_cores();
  return most < 1 ? 1 : cores < most ? cores : most;
}

// Start of a part, a multiple of OpenBLAS's block of 16 rows or columns.
static int64_t edge(int side, int part, int parts) { return part == parts ? side : (int64_t)side * part / parts / 16 * 16; }

static void compute_large_part(const void *large, int part) {
  const struct large_product *p = large;
  int m = p->m, n = p->n;
  const float *a = p->a, *b = p->b;
  float *c = p->c;
  if (n >= m) {
    int64_t from = edge(n, part, p->parts);
    n = edge(n, part + 1, p->parts) - from;
    b += p->transpose_b == no_transpose ? from : from * p->ldb;
    c += from;
  } else {
    int64_t from = edge(m, part, p->parts);
    m = edge(m, part + 1, p->parts) - from;
    a += p->transpose_a == no_transpose ? from * p->lda : from;
    c += from * p->ldc;
  }
  product(row_major, p->transpose_a, p->transpose_b, m, n, p->k, p->alpha, a, p->lda, b, p->ldb, p->beta, c, p->ldc);
}

static void multiply_row(struct row_product *p) {
  enum { min_part = 1 << 14 }; // multiplications
  int64_t parts = (int64_t)p->n * p->k / min_part;
  p->parts = parts < 2 ? 1 : parts < max_parts ? (int)parts : max_parts;
  static _Thread_local float *sums;
  static _Thread_local int width;
  if (!p->transposed && p->n > width) {
    free(sums);
    sums = malloc(sizeof(float) * max_parts * (size_t)(width = p->n));
    if (!sums) abort();
  }
  p->sums = sums;
  mlx_gpt_compute_parts((struct job){compute_row_part, p, p->parts}, 1);
  if (!p->transposed) add_sums(p);
}

// Generating text one token at a time multiplies rows by matrices, which MLX requests as matrix products. OpenBLAS's sgemm
// would pack the whole matrix first; its sgemv reads it once.
void mlx_gpt_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                   int ldb, float beta, float *c, int ldc) {
  enum { large = 1 << 26 }; // multiplications: more than a millisecond
  if (!replaced.enabled) {
    product(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  } else if (order == row_major && m == 1) {
    struct row_product p = {transpose_b != no_transpose, n, k, alpha, a, transpose_a == no_transpose ? 1 : lda, b, ldb, beta, c, 1, NULL};
    multiply_row(&p);
  } else if (order == row_major && (int64_t)m * n * k >= large) {
    struct large_product p = {transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, large_parts(m > n ? m : n)};
    mlx_gpt_compute_parts((struct job){compute_large_part, &p, p.parts}, mlx_gpt_is_alone());
  } else {
    product(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
}

void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
  mlx_gpt_use(&replaced); // called by MLX; this folder calls mlx_gpt_sgemm
  mlx_gpt_sgemm(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

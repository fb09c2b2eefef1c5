// How MLX's matrix products reach OpenBLAS, linked into every binary beside mlx-c.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

enum { row_major = 101, no_transpose = 111, transpose = 112 }; // cblas.h

typedef void gemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                  int ldb, float beta, float *c, int ldc);
typedef void gemv(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x, int incx, float beta,
                  float *y, int incy);

static gemm *product;
static gemv *times_vector;
static void (*set_threads)(int);
static int processors = 1, threads = 1;

// The program computes on a thread for each core, each with its own matrix products. OpenBLAS splitting those again
// would have the threads wait for each other: 62 ms a step of the nano preset on two cores without, 124 ms with.
__attribute__((constructor)) static void find_openblas(void) {
  product = (gemm *)dlsym(RTLD_NEXT, "cblas_sgemm");
  times_vector = (gemv *)dlsym(RTLD_NEXT, "cblas_sgemv");
  set_threads = (void (*)(int))dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
  const char *given = getenv("OPENBLAS_NUM_THREADS");
  if (given) processors = threads = atoi(given);
  else if (set_threads) set_threads(1);
}

// A row times a matrix is what generating text one token at a time consists of, and MLX asks for it as a product of
// matrices. OpenBLAS would copy the whole matrix into blocks first; its routine for vectors reads it once, which is all
// that memory allows. A large one is worth all cores: only generating does this, on one thread.
void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
  if (order != row_major || m != 1) {
    product(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  int many = set_threads && processors > threads && (long)n * k >= 1 << 18;
  if (many) set_threads(processors);
  int step = transpose_a == no_transpose ? 1 : lda;
  if (transpose_b == no_transpose) times_vector(row_major, transpose, k, n, alpha, b, ldb, a, step, beta, c, 1);
  else times_vector(row_major, no_transpose, n, k, alpha, b, ldb, a, step, beta, c, 1);
  if (many) set_threads(threads);
}

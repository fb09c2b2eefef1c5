// Divides a product into parts that the cores compute at the same time.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum { max_parts = 8 }; // of a few rows times a matrix, and cores used

// Its parts may be computed by any thread and in any order; to have the same result everywhere, what a part is must not depend
// on them.
struct job {
  void (*compute_part)(const void *work, int part);
  const void *work;
  int parts;
};

// Computes all parts, with the workers unless another thread is using them.
void mlx_gpt_compute_parts(struct job job, int with_workers);

// Number of cores for products, at most max_parts.
int mlx_gpt_cores(void);

// Whether only this thread has requested large products for a while. If several do, all cores are busy already.
int mlx_gpt_is_alone(void);

#ifdef __cplusplus
}
#endif

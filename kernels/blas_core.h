// For the program: which of OpenBLAS's kernels compute, and whether they suit the processor.
#pragma once

// "OpenBLAS 0.3.34, SkylakeX kernels".
void mlx_gpt_blas(char name[128]);

// Floating-point operations a second of one core: `rates[0]` in a product of float32 matrices by OpenBLAS, `rates[1]` in the
// widest vectors that the processor has, which no product can exceed. Takes 50 to 100 ms.
void mlx_gpt_blas_rates(double rates[2]);

// The kernels of OpenBLAS that fit the processor's vectors, as OPENBLAS_CORETYPE names them; empty where that is not known.
void mlx_gpt_fitting_blas_core(char name[32]);

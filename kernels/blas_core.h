// For the program: OpenBLAS's kernels in use, and whether they suit the processor.
#pragma once

// "OpenBLAS 0.3.34, SkylakeX kernels".
void mlx_gpt_blas(char name[128]);

// FLOP/s of one core: `rates[0]` of OpenBLAS's sgemm, `rates[1]` of the widest vector instructions, the upper bound. Takes 50 to
// 100 ms.
void mlx_gpt_blas_rates(double rates[2]);

// OpenBLAS's kernels for the processor's vector instructions, as a value of OPENBLAS_CORETYPE; empty if unknown.
void mlx_gpt_fitting_blas_core(char name[32]);

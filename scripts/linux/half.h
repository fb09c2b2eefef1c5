// mlx-c defines its 16-bit float types on Arm only; its half-precision functions disappear elsewhere. Force-included
// on x86_64: MLX's types in C++, and types of the same size and alignment in C, for bindgen.
#ifndef MLX_GPT_HALF_H
#define MLX_GPT_HALF_H
#if defined(__x86_64__)
#define HAS_FLOAT16
#define HAS_BFLOAT16
#ifdef __cplusplus
#include "mlx/types/half_types.h"
typedef mlx::core::float16_t float16_t;
typedef mlx::core::bfloat16_t bfloat16_t;
#else
typedef struct { unsigned short bits; } float16_t;
typedef unsigned short bfloat16_t;
#endif
#endif
#endif

// mlx-c has its half-precision functions where the compiler has 16-bit floats of Arm's, and gives them these types. MLX's library,
// on x86_64 and on Arm, is built with types of its own instead. Force-included before mlx-c's header of that name, which then does
// nothing: MLX's types in C++, and types of the same size and alignment in C, for bindgen. They are passed as Rust passes them.
#ifndef MLX_GPT_HALF_H
#define MLX_GPT_HALF_H
#define MLX_HALF_H
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

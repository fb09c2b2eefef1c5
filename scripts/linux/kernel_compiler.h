// For the program.
#pragma once

// The compiler of MLX's fused kernels, as "g++ (Debian 12.2.0-14) 12.2.0". Empty if there is none: MLX then runs their operations
// one by one, at half the speed, and results differ in the last bits.
extern "C" void mlx_gpt_kernel_compiler(char name[128]);

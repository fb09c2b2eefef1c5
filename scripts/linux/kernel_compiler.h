// For the program.
#pragma once

// What compiles MLX's fused kernels here, as it calls itself: "g++ (Debian 12.2.0-14) 12.2.0". Empty if nothing does: MLX
// then takes their operations one by one, at half the speed, and numbers differ in their last bits.
extern "C" void mlx_gpt_kernel_compiler(char name[128]);

// Products of a few rows of float32 with weights of 16 bits.
#pragma once

#include <optional>

#include "mlx/array.h"
#include "mlx/stream.h"

// `x W + b`, W [k, n] or, transposed, [n, k] of float16 or bfloat16. None where the rows are many, or the arrays others.
std::optional<mlx::core::array> half_product(const mlx::core::array &x, const mlx::core::array &weight,
                                             const std::optional<mlx::core::array> &bias, bool transposed, mlx::core::Stream stream);

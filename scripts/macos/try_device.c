// Adds two numbers with MLX on its default device: prints "gpu 42" if that is a GPU.
#include <stdio.h>

#include "mlx/c/mlx.h"

int main(void) {
  mlx_device device = mlx_device_new();
  mlx_stream stream = mlx_stream_new();
  mlx_array a = mlx_array_new_float(20), b = mlx_array_new_float(22), sum = mlx_array_new();
  mlx_device_type type;
  float result;
  // By default, an error is printed and ends the program.
  mlx_get_default_device(&device);
  mlx_device_get_type(&type, device);
  mlx_get_default_stream(&stream, device);
  mlx_add(&sum, a, b, stream);
  mlx_array_eval(sum);
  mlx_array_item_float32(&result, sum);
  printf("%s %g\n", type == MLX_GPU ? "gpu" : "cpu", result);
  return 0;
}

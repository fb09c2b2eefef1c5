# Sourced by setup.sh: chooses MLX's backend, `backend` (cpu, cuda-12 or cuda-13), and its folders.

# Major version of NVIDIA's driver; empty if there is none.
driver() {
  { nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null || true; } | sed -n '1s/^\([0-9]*\)\..*/\1/p'
}

# The build of MLX's CUDA library for a driver; empty if the driver is too old.
cuda_for() {
  if [ "$1" -ge 580 ]; then echo cuda-13; elif [ "$1" -ge 550 ]; then echo cuda-12; fi
}

backend=${BACKEND:-$(cat .mlx/backend 2>/dev/null || true)}
case $backend in
  cpu | cuda-12 | cuda-13) ;;
  cuda)
    version=$(driver)
    backend=$(cuda_for "${version:-580}") # without a driver, for the newest
    [ -n "$backend" ] || die "MLX's CUDA library needs NVIDIA's driver 550 or newer, and this is $version; update it, or run BACKEND=cpu make setup"
    ;;
  '')
    version=$(driver)
    backend=$(cuda_for "${version:-0}")
    [ -n "$backend" ] || [ -z "$version" ] || say "NVIDIA's driver $version is too old for MLX, which needs 550: using the processor"
    backend=${backend:-cpu}
    ;;
  *) die "BACKEND is \"$backend\"; say cpu (MLX on the processor) or cuda (MLX on an NVIDIA GPU)" ;;
esac

case $backend in
  cpu)
    mlx=$root/.mlx
    requirements=$here/requirements.txt
    ;;
  *)
    mlx=$root/.mlx/cuda
    requirements=$here/cuda/$backend.txt
    ;;
esac

#!/usr/bin/env bash
# Benchmarks training on this machine against PyTorch (eager), Python MLX and MLX's own CPU kernels (MLX_GPT_KERNELS=off): step
# time, memory, and the calls of MLX per step. The baselines are installed the first time: PyTorch into .interop/, with all that
# `make interop` compares with (about 1 GB), MLX into .peers/. Takes about ten minutes on two idle cores.
#
#     ROUNDS=1 ONLY_NANO=1 bash scripts/bench.sh     # a quick look
#
# STEPS and FEW_STEPS are the steps per measurement: of nano, and of larger models. PROGRAM is an mlx-gpt to measure instead of the
# one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/python_env.sh

interop_env
torch=$python
mlx=mlx torch_device=mps
[ "$(uname -s)" = Darwin ] || {
  mlx="mlx[cpu]==$(sed -n 's/^mlx-cpu==\([0-9.]*\).*/\1/p' scripts/linux/requirements.txt)" # the version that mlx-gpt is linked with
  torch_device=cpu
}
python_env .peers/mlx "$mlx"
as_installed=$python
with_openblas='' # on a Mac, MLX has its own
if [ "$(uname -s)" = Linux ]; then
  # The same with the BLAS of scripts/linux/setup.sh.
  python_env .peers/mlx-openblas "$mlx"
  libraries=$(ls -d .peers/mlx-openblas/lib/python3*/site-packages/mlx_cpu.libs)
  for library in .mlx/mlx_cpu.libs/libblas-* .mlx/mlx_cpu.libs/libscipy_openblas.so; do
    ln -sfn "$PWD/$library" "$libraries/"
  done
  with_openblas=$python
fi

program=${PROGRAM:-target/release/mlx-gpt}
[ -n "${PROGRAM:-}" ] || cargo build --quiet --release
"$torch" scripts/bench/compare.py --program "$program" --torch "$torch" --torch-device "$torch_device" \
  --mlx "$as_installed" --mlx-openblas "$with_openblas" --rounds "${ROUNDS:-5}" --steps "${STEPS:-60}" \
  --few-steps "${FEW_STEPS:-5}" ${ONLY_NANO:+--only-nano}

if [ "$(uname -s)" = Linux ]; then
  python3 scripts/bench/counts.py "$program"
fi

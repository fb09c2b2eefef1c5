#!/usr/bin/env bash
# Tests and benchmarks on a GPU, against PyTorch if it is installed, in parts of less than four minutes each on a data-centre GPU.
# Parts with results are not repeated. Writes results.json, table.txt and log.txt to OUT, and all of it to OUT.tar.gz; the last line
# is a summary. Exits with 0 only if no row failed and none was skipped unrequested.
#
#     bash scripts/gpu.sh                        all parts, results in gpu-results/
#     bash scripts/gpu.sh --parts compute,tests  only these parts
#     bash scripts/gpu.sh --smoke                all parts with tiny sizes on the CPU: a test of this script
#     bash scripts/gpu.sh --out DIR              results elsewhere
#     bash scripts/gpu.sh --corpus FILE          tiny Shakespeare (scripts/tinyshakespeare.sh) for the recipe's loss
#
# In a checkout it uses the program and tests built by Cargo. `make gpu-bundle` packs everything for a machine with a GPU but without
# Rust, compiler and network; it needs Python 3, NVIDIA's driver, and NVIDIA's libraries, of PyTorch's wheels or of the system.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -e "$root/bin/mlx-gpt" ]; then
  export LD_LIBRARY_PATH=$root/mlx/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  # Links the libraries of PyTorch's wheels into the search path of MLX's library.
  missing=$(python3 "$root/scripts/linux/cuda/needed.py" "$root" "$(cat "$root/cuda")" | paste -sd ' ' -)
  if [ -n "$missing" ]; then
    echo "error: this machine lacks what these packages have; run: pip install $missing" >&2
    exit 1
  fi
fi
exec python3 "$root/scripts/gpu/measure.py" --root "$root" "$@"

#!/usr/bin/env bash
# Is the GPU right, and how fast is it, beside PyTorch where that is installed: tests, trainings and timings in parts, each under
# four minutes on a data-centre card. A part that has a result is not run again. Leaves results.json, table.txt and log.txt in OUT,
# and all of it in OUT.tar.gz; the last line is the summary. Exit 0 only if no row failed or was left out unasked.
#
#     bash scripts/gpu.sh                        all of it, results in gpu-results/
#     bash scripts/gpu.sh --parts compute,tests  these alone
#     bash scripts/gpu.sh --smoke                all of it with tiny sizes on the CPU: a test of this script
#     bash scripts/gpu.sh --out DIR              results elsewhere
#     bash scripts/gpu.sh --corpus FILE          tiny Shakespeare (scripts/tinyshakespeare.sh) for the recipe's loss
#
# In a checkout it takes the program and tests that Cargo built. `make gpu-bundle` packs all that it needs for a machine with a
# card, where neither Rust nor a compiler nor a network is needed: Python 3, NVIDIA's driver, and NVIDIA's libraries, those of
# PyTorch's wheels or the system's.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -e "$root/bin/mlx-gpt" ]; then
  export LD_LIBRARY_PATH=$root/mlx/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  # What PyTorch brought, where MLX's library looks for it.
  missing=$(python3 "$root/scripts/linux/cuda/needed.py" "$root" "$(cat "$root/cuda")" | paste -sd ' ' -)
  if [ -n "$missing" ]; then
    echo "error: this machine lacks what these packages have; run: pip install $missing" >&2
    exit 1
  fi
fi
exec python3 "$root/scripts/gpu/measure.py" --root "$root" "$@"

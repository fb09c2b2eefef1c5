#!/usr/bin/env bash
# Opens a checkpoint that this program trains in `transformers` and in `mlx-lm`, and compares ids and losses. Both are
# installed into .interop/ the first time (about 1 GB; minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python_env.sh
mlx=mlx
[ "$(uname -s)" = Darwin ] || mlx='mlx[cpu]' # elsewhere mlx alone has no backend
python_env .interop torch transformers mlx-lm "$mlx"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mlx_gpt=target/debug/mlx-gpt
"$mlx_gpt" train --device cpu --steps 50 --layers 3 --heads 5 --embd 80 --context 24 --out "$work/run"
head -c 20000 assets/shakespeare.txt >"$work/text.txt"
$python scripts/interop.py "$work/run/latest" "$work/text.txt" --mlx-gpt "$mlx_gpt"

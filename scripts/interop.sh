#!/usr/bin/env bash
# Opens a checkpoint that this program trains in `transformers` and in `mlx-lm`, and compares ids and losses. Both are
# installed into .interop/ the first time (about 1 GB; minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

python=.interop/bin/python
[ -e .interop/complete ] || {
  echo "interop: installing transformers, torch and mlx-lm into .interop/ (once)" >&2
  rm -rf .interop
  python3 -m venv .interop
  $python -m pip install --quiet --disable-pip-version-check torch transformers mlx-lm
  [ "$(uname -s)" = Darwin ] || $python -m pip install --quiet --disable-pip-version-check 'mlx[cpu]'
  touch .interop/complete
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mlx_gpt=target/debug/mlx-gpt
"$mlx_gpt" train --device cpu --steps 50 --layers 3 --heads 5 --embd 80 --context 24 --out "$work/run"
head -c 20000 assets/shakespeare.txt >"$work/text.txt"
$python scripts/interop.py "$work/run/latest" "$work/text.txt" --mlx-gpt "$mlx_gpt"

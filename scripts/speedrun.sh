#!/usr/bin/env bash
# Time to a validation loss: the recipes of sweeps/speedrun.toml against nanoGPT's recipe in PyTorch (installed into .interop/ the
# first time, with all that `make interop` compares with), alternating in one session, on two texts:
#
#   tiny Shakespeare, to a loss of 1.90, and mlx-gpt's built-in corpus, to the final loss of the baseline recipe.
#
#     bash scripts/speedrun.sh                       # both
#     CORPUS=notes.txt TARGET=2.0 bash scripts/speedrun.sh   # only another text
#     PRESET=baby TARGET=1.47 RECIPES=baby.toml bash scripts/speedrun.sh
#
# SEEDS="1337 1 2", STEPS=n (PyTorch's steps) and EVALUATIONS=n (per training; 20) are further options. Tables go to standard
# output, curves and pictures to speedrun/<time>/.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${PRESET:-nano}
recipes=${RECIPES:-sweeps/speedrun.toml}
seeds=${SEEDS:-1337 1 2}
evaluations=${EVALUATIONS:-20}
torch_device=cpu
if [ "$(uname)" = Darwin ]; then torch_device=mps; fi # as mlx-gpt does

source scripts/python_env.sh
interop_env
program=$(cargo build --quiet --message-format=json | "$python" -c '
import json, sys
built = (json.loads(line) for line in sys.stdin)
print(*(one["executable"] for one in built if one.get("target", {}).get("name") == "mlx-gpt" and one.get("executable")))')
out=speedrun/$(date +%Y%m%d-%H%M%S)

# run NAME CORPUS-FILE [OPTION…]: the comparison on one text.
run() {
  local name=$1 corpus=$2
  shift 2
  mkdir -p "$out/$name"
  for seed in $seeds; do
    "$python" scripts/bench/torch_recipe.py --corpus "$corpus" --preset "$preset" --seed "$seed" \
      --device "$torch_device" --evaluations "$evaluations" ${STEPS:+--steps "$STEPS"} >>"$out/$name/curves.jsonl"
    "$program" bench speedrun "$recipes" --corpus "$corpus" --evaluations "$evaluations" --seeds "$seed" --out "$out/$name" "$@" \
      >/dev/null
  done
  printf '\n%s\n\n' "$corpus"
  "$program" bench speedrun "$recipes" --corpus "$corpus" --seeds "${seeds// /,}" --out "$out/$name" "$@"
}

if [ -n "${CORPUS:-}" ]; then
  run "$(basename "${CORPUS%.*}")" "$CORPUS" ${TARGET:+--target "$TARGET"}
  exit
fi
bash scripts/tinyshakespeare.sh >&2
run tinyshakespeare data/tinyshakespeare.txt --target "${TARGET:-1.90}"
run shakespeare assets/shakespeare.txt

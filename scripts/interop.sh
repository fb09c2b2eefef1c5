#!/usr/bin/env bash
# Interoperability tests against transformers, mlx-lm, peft and gguf, and against llama.cpp if `make interop-llama` has built it.
# They are installed into .interop/ the first time (about 1 GB, some minutes). Prints every compared figure; stops at the first
# mismatch.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python_env.sh
interop_env

if [ "${1:-}" = --build-llama ]; then
  "$python" -m pip install --quiet --disable-pip-version-check llama-cpp-python
  echo "llama.cpp is built; make interop runs GGUF files in it now" >&2
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
mlx_gpt=target/debug/mlx-gpt
export PYTHONWARNINGS=ignore
started=$SECONDS

section() { printf '\n%s (after %d s)\n' "$1" "$((SECONDS - started))"; }
quietly() { "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2 && return 1; }; }
# Checks print to standard output; the program's messages go to the log, whose end is shown if a check fails.
check() { "$python" "scripts/interop/$1.py" "${@:2}" --mlx-gpt "$mlx_gpt" 2>"$log" || { tail -n 20 "$log" >&2 && return 1; }; }

head -c 20000 assets/shakespeare.txt >"$work/text.txt"
small=(--device cpu --steps 50 --layers 3 --heads 5 --embd 80 --context 24 --eval-batches 2)

section "A run in transformers and mlx-lm, without conversion"
quietly "$mlx_gpt" train "${small[@]}" --out "$work/run"
check checkpoint "$work/run/latest" "$work/text.txt"

section "Models of transformers, imported"
check imports "$work/text.txt" "$work"

section "Less common variants of the formats of transformers, peft, mlx-lm and nanoGPT"
mkdir "$work/foreign"
check foreign "$work/text.txt" "$work/foreign"

section "Exports of an import, in transformers and mlx-lm"
quietly "$mlx_gpt" export --checkpoint "$work/shards" --format hf --out "$work/hf"
check checkpoint "$work/hf" "$work/text.txt" --tolerance 1e-5
quietly "$mlx_gpt" export --checkpoint "$work/shards" --format hf --dtype float16 --out "$work/hf16"
check checkpoint "$work/hf16" "$work/text.txt" --tolerance 1e-5 --only transformers
for bits in 8 4; do
  quietly "$mlx_gpt" export --checkpoint "$work/shards" --format mlx --bits "$bits" --group-size 32 --out "$work/mlx$bits"
  check checkpoint "$work/mlx$bits" "$work/text.txt" --only mlx-lm
done

section "Low-rank adapters in peft, and merged in transformers"
quietly "$mlx_gpt" train --device cpu --init-from "$work/run/latest" --steps 20 --lr 0.01 --context 24 --eval-batches 2 \
  --warmup 1 --lora-rank 4 --lora-targets c_attn,mlp.c_proj --out "$work/lora"
check adapters "$work/lora/latest" "$work/text.txt"
quietly "$mlx_gpt" export --checkpoint "$work/lora/latest" --format hf --out "$work/merged"
check checkpoint "$work/merged" "$work/text.txt" --only transformers --tolerance 1e-5

section "GGUF, read back by the gguf package"
for dtype in float16 q8_0; do
  quietly "$mlx_gpt" export --checkpoint "$work/shards" --format gguf --dtype "$dtype" --out "$work/$dtype.gguf"
  check gguf_file "$work/shards" "$work/$dtype.gguf"
done

section "Conversations in transformers, with the folder's chat template"
quietly "$python" scripts/conversations.py --out "$work/world" --count 300 --test 100
quietly "$mlx_gpt" train --device cpu --layers 2 --heads 2 --embd 64 --context 256 --steps 60 --eval-batches 2 \
  --chat "$work/world/train.jsonl" --out "$work/chat"
check chat "$work/chat/latest" "$work/world/test.jsonl"

section "HellaSwag scores in transformers"
for model in run/latest shards; do
  check hellaswag "$work/$model" assets/endings.jsonl
done

printf '\nall checks passed in %d s\n' "$((SECONDS - started))"

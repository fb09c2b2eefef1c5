#!/usr/bin/env bash
# Benchmarks the tokenizer against tiktoken and Hugging Face's tokenizers, which are installed into .peers/ the first time.
#
#     bash scripts/bench_tokenizer.sh              # ten copies of the built-in corpus
#     bash scripts/bench_tokenizer.sh FILE         # ten copies of another text
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python_env.sh
python_env .peers/tokenizers tiktoken==0.14.0 tokenizers==0.23.3

program=$(cargo build --quiet --release --bench tokenizer --message-format=json |
  $python -c '
import json, sys
built = (json.loads(line) for line in sys.stdin)
print(*(one["executable"] for one in built if one.get("target", {}).get("kind") == ["bench"]))')
$python scripts/bench_tokenizer.py "$program" "${1:-assets/shakespeare.txt}"

#!/usr/bin/env bash
# Trains a run to its end, from its beginning or from where it was stopped: scripts/train_to_end.sh FOLDER OPTIONS OF TRAIN.
set -euo pipefail
cd "$(dirname "$0")/.."

run=$1
shift
if [ -e "$run/latest" ]; then
  cargo run --quiet -- train --resume "$run"
else
  cargo run --quiet -- train --out "$run" "$@"
fi

#!/usr/bin/env bash
# Follows docs/library.md in a new package outside this checkout, and generates text with the newest run.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
run=${1:-$(ls -td runs/*/ 2>/dev/null | head -n 1)}
[ -n "$run" ] || { echo "try_library: error: there is no run to load; make one with: make train" >&2 && exit 1; }
run=$(cd "$run" && pwd)

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cargo new --quiet --vcs none "$place/writer"
bash scripts/depend.sh "$place/writer"
# The first program of docs/library.md.
awk '/^```rust/ { inside = 1; next } /^```/ { if (inside) exit } inside' docs/library.md >"$place/writer/src/main.rs"
lines=$(wc -l <"$place/writer/src/main.rs")
[ "$lines" -gt 0 ] && [ "$lines" -le 10 ] || { echo "try_library: error: the program has $lines lines" >&2 && exit 1; }

cd "$place/writer"
# Keeps compiled dependencies for the next time.
text=$(CARGO_TARGET_DIR="$checkout/target/dependent" cargo run --quiet -- "$run")
printf '%s\n' "$text"
[ "$(printf '%s' "$text" | wc -m)" -ge 100 ] || { echo "try_library: error: it generated almost nothing" >&2 && exit 1; }
if cargo tree --prefix none --edges normal | grep -E '^(clap|indicatif|plotters|rustls) '; then
  echo "try_library: error: the library depends on crates of the command-line program" >&2
  exit 1
fi

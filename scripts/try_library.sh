#!/usr/bin/env bash
# Does what docs/library.md says in a fresh package outside of this checkout, which writes text with the newest run.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
run=${1:-$(ls -td runs/*/ 2>/dev/null | head -n 1)}
[ -n "$run" ] || { echo "try_library: error: there is no run to load; make one with: make train" >&2 && exit 1; }
run=$(realpath "$run")

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cargo new --quiet --vcs none "$place/writer"
bash scripts/depend.sh "$place/writer"
# The first program of docs/library.md.
awk '/^```rust/ { inside = 1; next } /^```/ { if (inside) exit } inside' docs/library.md >"$place/writer/src/main.rs"
lines=$(wc -l <"$place/writer/src/main.rs")
[ "$lines" -gt 0 ] && [ "$lines" -le 10 ] || { echo "try_library: error: the program has $lines lines" >&2 && exit 1; }

cd "$place/writer"
# What was compiled stays for the next time.
text=$(CARGO_TARGET_DIR="$checkout/target/dependent" cargo run --quiet -- "$run")
printf '%s\n' "$text"
[ "$(printf '%s' "$text" | wc -m)" -ge 100 ] || { echo "try_library: error: it wrote next to nothing" >&2 && exit 1; }
if cargo tree --prefix none --edges normal | grep -E '^(clap|indicatif|plotters|rustls) '; then
  echo "try_library: error: the library brought the program's crates along" >&2
  exit 1
fi

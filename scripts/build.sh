#!/usr/bin/env bash
# Builds the program as `cargo run` and the tests do. If there is something to compile, it says so first, with the time of the
# last build on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}/debug
last=$target/mlx-gpt.seconds # duration of the last build

sources=()
for path in src kernels book/src assets build.rs Cargo.toml Cargo.lock .cargo/config.toml; do
  [ ! -e "$path" ] || sources+=("$path")
done

built=$target/mlx-gpt
[ ! -e "$last" ] || built=$last
first=
if [ ! -e "$built" ]; then
  first=yes
  echo "build: compiling mlx-gpt and the crates that it uses (the first time some minutes, afterwards what changed)" >&2
elif find ${sources[@]+"${sources[@]}"} -newer "$built" -print | grep -q .; then
  took=$(cat "$last" 2>/dev/null || true) # empty if it was not measured yet
  echo "build: the sources have changed; compiling them (${took:-60} s or so)" >&2
else
  exit 0
fi
started=$SECONDS
cargo build
seconds=$((SECONDS - started))
# Only real incremental builds are recorded as the next estimate: the first build takes longer, and one without changes no time.
if [ -n "$first" ] || [ "$seconds" -lt 3 ]; then touch "$last"; else echo "$seconds" >"$last"; fi

# The first program is checked: it may have been built but fail to compute.
if [ -n "$first" ] && ! said=$("$target/mlx-gpt" doctor 2>&1); then
  printf '%s\n' "$said" >&2
  case $(cat .mlx/backend 2>/dev/null || true) in
    source) other='; the other way: BACKEND=wheel make setup' ;;
    wheel) other='; the other way: BACKEND=source make setup' ;;
    cuda*) other='; the other way: BACKEND=cpu make setup' ;;
    *) other= ;;
  esac
  echo "build: mlx-gpt was built, but something is wrong with this machine, see above$other" >&2
fi

#!/usr/bin/env bash
# Builds the program as `cargo run` and the tests do. Where there is something to compile it says so first, and how long
# that took the last time on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}/debug
last=$target/mlx-gpt.seconds # how long it took, written when it was done

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
  took=$(cat "$last" 2>/dev/null || true) # empty where it was not measured yet
  echo "build: the sources have changed; compiling them (${took:-60} s or so)" >&2
else
  exit 0
fi
started=$SECONDS
cargo build
seconds=$((SECONDS - started))
# The first build says nothing of the next, nor does one that had nothing to do: Cargo has its own mind of what is old.
if [ -n "$first" ] || [ "$seconds" -lt 3 ]; then touch "$last"; else echo "$seconds" >"$last"; fi

# The first program is tried: it may have been built and not compute.
if [ -n "$first" ] && ! said=$("$target/mlx-gpt" doctor 2>&1); then
  printf '%s\n' "$said" >&2
  case $(cat .mlx/backend 2>/dev/null || true) in
    source) other='; the other way: BACKEND=wheel make setup' ;;
    wheel) other='; the other way: BACKEND=source make setup' ;;
    cuda*) other='; the other way: BACKEND=cpu make setup' ;;
    *) other= ;;
  esac
  echo "build: mlx-gpt was built, and something is wrong with this machine, see above$other" >&2
fi

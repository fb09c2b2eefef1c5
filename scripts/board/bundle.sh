#!/usr/bin/env bash
# Packs what writes on an e-ink frame for a board with 64-bit Arm Linux (Debian 12 or newer, Raspberry Pi OS), into
# board/mlx-gpt-board-VERSION-aarch64.tar.xz: the program, the driver of panels, MLX's library, a model and a service of systemd.
# Nothing has to be installed there: text generation uses no kernels that MLX would have to compile. docs/board.md goes on.
#
#     make board                     with the newest run; if there is none, one is trained
#     MODEL=runs/mine make board     with that run, or a checkpoint
#
# On x86_64 it is compiled by Debian's cross compiler (cross.sh), on a board by its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
say() { printf 'board: %s\n' "$*" >&2; }
die() {
  printf 'board: error: %s\n' "$*" >&2
  exit 1
}
limit=60000000 # bytes without the model

# The model: files that generation needs.
model=${MODEL:-}
if [ -z "$model" ]; then
  model=$(find runs -mindepth 2 -maxdepth 2 -name latest -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
  if [ -z "$model" ]; then
    say "there is no run; training the default model, some minutes"
    cargo run --quiet -- train --out runs/board
    model=runs/board
  fi
fi
checkpoint=$model
[ ! -e "$model/latest" ] || checkpoint=$model/latest
[ -e "$checkpoint/config.json" ] || die "$model is no run and no checkpoint; give one: MODEL=runs/NAME make board"
[ ! -e "$checkpoint/adapter_config.json" ] ||
  die "$model has adapters; merge them first: cargo run -- export --checkpoint $model --format hf --out merged, then MODEL=merged make board"

# The program.
triple=aarch64-unknown-linux-gnu
case $(uname -m) in
  aarch64 | arm64)
    bash scripts/setup.sh
    mlx=$root/.mlx built=target/release tools=
    cargo build --quiet --release --locked -p mlx-gpt -p mlx-gpt-epd
    ;;
  *)
    bash scripts/board/cross.sh
    mlx=$root/.board built=.board/target/$triple/release tools=aarch64-linux-gnu-
    say "compiling the program for $triple (the first time many minutes)"
    . scripts/board/rust.sh
    rust_for_target
    CARGO_TARGET_DIR=.board/target cargo build --quiet --release --locked --config .board/cargo.toml --target "$triple" \
      -p mlx-gpt -p mlx-gpt-epd
    ;;
esac

# The archive, laid out as `make install` does: build.rs has the program look for MLX's library there.
name=mlx-gpt-board-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-aarch64
whole=$(mktemp -d)
trap 'rm -rf "$whole"' EXIT
to=$whole/mlx-gpt-board
mkdir -p "$to/bin" "$to/share/mlx-gpt/mlx/lib" "$to/model"
for program in mlx-gpt mlx-gpt-epd; do "${tools}strip" -o "$to/bin/$program" "$built/$program"; done
"${tools}strip" --strip-unneeded -o "$to/share/mlx-gpt/mlx/lib/libmlx.so" "$mlx/mlx/lib/libmlx.so"
cp -r "$mlx/mlx_cpu.libs" "$to/share/mlx-gpt/"
cp scripts/board/mlx-gpt-board.service LICENSE "$to/"
# Debian 12 has version 2.36 of the C library, and its C++ library is GCC 12's.
newest() { { find "$to/bin" "$to/share" -type f -exec "${tools}objdump" -T {} + || true; } | grep -o "$1_[0-9][0-9.]*" | sort -uV | tail -n 1; }
for library in GLIBC_2.36 GLIBCXX_3.4.30; do
  newest=$(newest "${library%_*}")
  [ "$(printf '%s\n' "$library" "$newest" | sort -V | tail -n 1)" = "$library" ] ||
    die "the program needs $newest, which Debian 12 has not; build it on Debian 12, or with its compilers"
done

out=board/$name.tar.xz
mkdir -p board
pack() { tar -C "$whole" --sort=name --owner=0 --group=0 --numeric-owner -c mlx-gpt-board | xz -6 -T1; }
size=$(pack | wc -c)
[ "$size" -le $limit ] || die "without the model it has $size bytes, more than $limit"
find -L "$checkpoint" -maxdepth 1 -type f ! -name optimizer.safetensors ! -name apart.safetensors ! -name sample.txt -exec cp -L {} "$to/model/" \;
pack >"$out.making"
mv "$out.making" "$out"
say "$out, $(($(stat -c %s "$out") / 1000000)) MB, of which $((size / 1000000)) MB are not the model ($model)"

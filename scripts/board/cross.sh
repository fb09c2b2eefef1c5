#!/usr/bin/env bash
# On x86_64 Linux: all that builds the program for 64-bit Arm Linux (aarch64-unknown-linux-gnu), in .board/: MLX's library and OpenBLAS
# for it, from the Python package index, the C interface and the kernels compiled by Debian's cross compiler, and cargo.toml, which
# tells Cargo of them (cargo build --config .board/cargo.toml --target aarch64-unknown-linux-gnu). As scripts/linux/setup.sh does for
# this machine, and by the same scripts.
#
# Rust's standard library for the target is rustup's where there is a rustup that can fetch it; otherwise Debian 12's Rust and its
# standard library for arm64 are unpacked into .board/, by rust.sh, without changing the system.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=$PWD
here=scripts/linux
system_needs="it has wheels for manylinux of aarch64"
. scripts/setup/steps.sh
say() { printf 'board: %s\n' "$*" >&2; }
die() {
  printf 'board: error: %s\n' "$*" >&2
  exit 1
}

[ "$(uname -s)" = Linux ] || die "boards run Linux; build on Linux, there or on another machine"
triple=aarch64-unknown-linux-gnu machine=aarch64 backend=cpu
cross=aarch64-linux-gnu-
mlx=$root/.board
requirements=$here/requirements.txt
interface=$mlx/interface
target_flags=(--target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include)
platforms=()
for glibc in 35 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done

stop_on_signals
folder "$mlx"
lock "$mlx/lock"
trap 'rm -rf "$mlx"/making.*' EXIT
finish_puts "$mlx"

# 1. The system's packages.
. $here/packages.sh
compiler=()
command -v "${cross}g++" >/dev/null || compiler=(g++-aarch64-linux-gnu)
install_packages "${compiler[@]}"

# 2. Rust for the target.
. scripts/board/rust.sh
rust_for_target

# 3. MLX and OpenBLAS.
. $here/fetch.sh
if ! cmp -s "$mlx/requirements" "$requirements"; then
  say "fetching MLX and OpenBLAS for $machine ($(names "$requirements"))"
  making=$mlx/making.wheel
  fetch_mlx "$making"
  for part in mlx mlx_cpu.libs; do put "$making/$part" "$mlx/$part"; done
  step "what was fetched could not be kept" cp "$requirements" "$mlx/requirements"
fi

# 4. The C interface and the kernels.
. $here/interface.sh
want=$(cat scripts/setup/*.sh scripts/board/cross.sh $here/*.* kernels/*.[ch]* "$requirements" | sha256sum | cut -d" " -f1)
if [ "$(cat "$mlx/complete" 2>/dev/null)" != "$want" ]; then
  say "compiling the C interface and the kernels for $machine"
  making=$mlx/making.c
  rm -rf "$making"
  folder "$making/lib"
  folder "$making/include"
  # A cross compiler has folders of its own, in which the packages of this machine's processor are not.
  [ ! -d /usr/include/fmt ] || ln -s /usr/include/fmt "$making/include/fmt"
  CPATH=$making/include build_interface "$mlx/mlx/include" "$making"
  put "$making/lib" "$mlx/lib"
  printf '%s' "$want" | write "$mlx/complete"
fi
# This crate is optimised as much as for `make train`: MLX computes.
printf '%s\n' "# Written by scripts/board/cross.sh.
[profile.release.package.mlx-gpt]
opt-level = 1

[env]
MLX_GPT_RPATH = \"$mlx/mlx/lib\"

[target.$triple]
linker = \"${cross}gcc\"

[target.$triple.mlx]
rustc-link-lib = [\"static=mlxc\", \"mlx\", \"stdc++\"]
rustc-link-search = [\"$mlx/lib\", \"$mlx/mlx/lib\"]
rustc-env = { OUT_DIR = \"$mlx/lib\" }
kernels = \"replaced\"
version = \"$(sed -n 's/^mlx-[a-z0-9-]*==\([0-9.]*\).*/\1/p' "$requirements")\"" | write "$mlx/cargo.toml"

#!/usr/bin/env bash
# Linux: MLX for mlx-rs, in .mlx/ of this checkout: its CPU backend in .mlx/ itself, its CUDA backend in .mlx/cuda/. Both can
# coexist. See scripts/setup.sh for its guarantees.
#
# mlx-sys builds MLX for macOS only; Cargo's build-script override (`[target.<triple>.mlx]`) replaces that build on
# Linux only. Every part is built in a temporary folder, and the old installation is replaced when all are complete: an interrupted
# or failed run leaves it working, and the next run continues where this one stopped.
set -euo pipefail

root=$PWD
here=scripts/linux
system_needs="glibc must be 2.35 or newer"
. scripts/setup/steps.sh
. $here/backend.sh
triple=$(rustc -vV | sed -n 's/^host: //p')
# Hash of all inputs of the build.
want=$(cat scripts/setup/*.sh "$here"/*.* "$here/compile_kernel" "$here"/cuda/* kernels/*.[ch]* <(grep -A 2 '^name = "mlx-sys"' Cargo.lock) | sha256sum | cut -d" " -f1)-$root-$triple-$backend

has_parts() {
  [ "$(cat "$mlx/complete" 2>/dev/null)" = "$want" ] && [ -e "$mlx/lib/libmlxc.a" ] && [ -e "$mlx/mlx/lib/libmlx.so" ] &&
    [ -x "$mlx/bin/compile_kernel" ] && compgen -G "$mlx/mlx_c*.libs/libscipy_openblas.so" >/dev/null &&
    command -v g++ >/dev/null && # which the program calls too
    { [ ! -e "$mlx/stand-ins" ] || [ -z "$(driver)" ]; }
}
is_configured() {
  [ "$(cat .mlx/backend 2>/dev/null)" = "$backend" ] && grep -q "^MLX_GPT_RPATH = \"$mlx/mlx/" .cargo/config.toml 2>/dev/null
}
has_parts && is_configured && exit 0

stop_on_signals
folder "$mlx"
folder .cargo
lock "$root/.mlx/lock"
has_parts && is_configured && exit 0
trap 'rm -rf "$mlx"/making.*' EXIT # after waiting for the lock, so that it removes nobody else's
finish_puts "$mlx"
if [ -f .cargo/config.toml ] && ! grep -q scripts/linux/setup.sh .cargo/config.toml; then
  die ".cargo/config.toml is not this script's; move it away (or to ~/.cargo/config.toml), then run this again"
fi

# Cargo's configuration. Its paths must be absolute, so it is generated and not committed.
configure() {
  printf '%s\n' "# Written by scripts/linux/setup.sh: where MLX is on this machine. Not committed; \`make setup\` makes it again.
[env]
MLX_GPT_RPATH = \"$mlx/mlx/lib\"

[target.$triple.mlx]
rustc-link-lib = [\"static=mlxc\", \"mlx\", \"stdc++\"]
rustc-link-search = [\"$mlx/lib\", \"$mlx/mlx/lib\"]
rustc-env = { OUT_DIR = \"$mlx/lib\" }
kernels = \"replaced\" # this program asks the library about them: kernels/override.h
version = \"$(sed -n 's/^mlx-[a-z0-9-]*==\([0-9.]*\).*/\1/p' "$requirements")\"" | write .cargo/config.toml
  printf '%s' "$backend" | write .mlx/backend
}
if has_parts; then
  say "using MLX's $backend backend, which is in ${mlx#"$root/"}/"
  configure
  exit 0
fi
. $here/packages.sh
. $here/fetch.sh
. $here/interface.sh
[ "$backend" = cpu ] || . $here/cuda/nvidia.sh
started=$SECONDS
say "preparing MLX's $backend backend in ${mlx#"$root/"}/ (once per checkout, about two minutes)"

# Components that need no download are used where they are.
next=$mlx/next
if [ -e "$mlx/mlx/lib/libmlx.so" ] && compgen -G "$mlx/mlx_c*.libs/libscipy_openblas.so" >/dev/null && cmp -s "$mlx/requirements" "$requirements"; then
  rm -rf "$next"
  fetched=$mlx
else
  fetched=$next
fi

install_packages
if [ "$fetched" = "$next" ] && ! cmp -s "$next/requirements" "$requirements"; then
  say "2/4 fetching MLX and OpenBLAS ($(without_nvidia "$requirements" | names /dev/stdin))"
  making=$mlx/making.wheel
  rm -rf "$making" "$next"
  fetch_mlx "$making"
  folder "$making/next"
  mv "$making/mlx" "$making"/mlx_c*.libs "$making/next/"
  step "what was fetched could not be kept" cp "$requirements" "$making/next/requirements"
  mv "$making/next" "$next"
else
  say "2/4 MLX and OpenBLAS are there"
fi
[ "$backend" = cpu ] || nvidia_libraries "$fetched"

say "3/4 building the C interface (about a minute)"
making=$mlx/making.c
rm -rf "$making"
folder "$making/lib"
folder "$making/bin"
build_interface "$fetched/mlx/include" "$making"
step "the compiler of kernels could not be copied" install -m 755 "$here/compile_kernel" "$making/bin/"

say "4/4 putting all in its place and writing .cargo/config.toml"
if [ "$fetched" = "$next" ]; then
  for libraries in "$mlx"/mlx_c*.libs; do # of another version of CUDA
    [ -e "$next/$(basename "$libraries")" ] || rm -rf "$libraries"
  done
  for part in "$next"/*; do put "$part" "$mlx/$(basename "$part")"; done
  rmdir "$next"
fi
put "$making/lib" "$mlx/lib"
put "$making/bin" "$mlx/bin"
configure
printf '%s' "$want" | write "$mlx/complete"
say "done in $((SECONDS - started)) s"

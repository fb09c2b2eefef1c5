#!/usr/bin/env bash
# macOS: chooses how MLX is built. See scripts/setup.sh for its guarantees. For bash 3.2 and BSD's tools.
set -euo pipefail

# shellcheck disable=SC2034 # wheel.sh uses it
root=$PWD
here=scripts/macos
. scripts/setup/steps.sh

[ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ] ||
  die "MLX needs Apple silicon; this Mac has an Intel processor, for which MLX has nothing"
[ "$(uname -m)" = arm64 ] || die "this terminal runs under Rosetta, for Intel's processors; run: arch -arm64 make setup"
triple=$(rustc -vV | sed -n 's/^host: //p')
[ "$triple" = aarch64-apple-darwin ] ||
  die "this Rust is for $triple; run: rustup toolchain install stable-aarch64-apple-darwin && rustup default stable-aarch64-apple-darwin"

has_metal_compiler() { xcodebuild -version >/dev/null 2>&1 && xcrun --sdk macosx metal --version >/dev/null 2>&1; }
has_command_line_tools() { xcode-select -p >/dev/null 2>&1 && xcrun --find clang++ >/dev/null 2>&1; }

backend=${BACKEND:-$(cat .mlx/backend 2>/dev/null || true)}
case $backend in
  wheel | source) ;;
  '')
    has_command_line_tools || die "the Command Line Tools are missing; run: xcode-select --install, and this again when they are there"
    if has_metal_compiler; then backend=source; else backend=wheel; fi
    ;;
  *) die "BACKEND is \"$backend\"; say wheel (MLX as its authors built it) or source (mlx-rs builds MLX, with Xcode)" ;;
esac
# shellcheck source=/dev/null
. "$here/$backend.sh"

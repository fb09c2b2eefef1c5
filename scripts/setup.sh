#!/usr/bin/env bash
# Prepares a machine for building mlx-gpt. Run by every `make` target; idempotent, and takes milliseconds once everything is
# installed.
#
# macOS   BACKEND=source: checks Xcode, the Metal compiler and cmake, with which mlx-rs builds MLX itself, as published.
#         BACKEND=wheel, if the Metal compiler is missing: downloads MLX prebuilt, and only needs the Command Line Tools.
# Linux   installs the build packages, fetches MLX from the Python package index (pinned, hashes checked), builds the C
#         interface that mlx-sys expects, and tells Cargo where both are (.cargo/config.toml). BACKEND=cpu: MLX on the
#         processor. BACKEND=cuda, if NVIDIA's driver is installed: MLX on an NVIDIA GPU.
#         Tested on Debian 12 x86_64. For arm64 the same functions are tested by scripts/board/cross.sh, and this script is not.
#
# BACKEND is remembered. A failure prints one line, and leaves a working installation as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup/steps.sh

command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs, then run this again"

case "$(uname -s)" in
  Darwin) exec bash scripts/macos/setup.sh ;;
  Linux) exec bash scripts/linux/setup.sh ;;
  *) die "MLX runs on macOS (Apple silicon) and on Linux; this is $(uname -s)" ;;
esac

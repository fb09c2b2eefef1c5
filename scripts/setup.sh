#!/usr/bin/env bash
# Gets a machine ready to build mlx-gpt, then gets out of the way: run by every `make` target, safe to run again at
# any time, done in milliseconds once everything is there.
#
# macOS   BACKEND=source: checks Xcode, the Metal compiler and cmake, with which mlx-rs builds MLX itself, as published.
#         BACKEND=wheel, where the Metal compiler is missing: fetches MLX as its authors built it, and needs the Command Line
#         Tools alone.
# Linux   installs the build packages, fetches MLX from the Python package index (pinned, hashes checked), builds the C
#         interface that mlx-sys expects, and tells Cargo where both are (.cargo/config.toml). BACKEND=cpu: MLX on the
#         processor. BACKEND=cuda, where NVIDIA's driver answers: MLX on an NVIDIA GPU.
#         Tried on Debian 12 x86_64. arm64 takes the same path and was not tried.
#
# BACKEND is remembered. A failure is one line, and leaves what worked before as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup/steps.sh

command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs, then run this again"

case "$(uname -s)" in
  Darwin) exec bash scripts/macos/setup.sh ;;
  Linux) exec bash scripts/linux/setup.sh ;;
  *) die "MLX runs on macOS (Apple silicon) and on Linux; this is $(uname -s)" ;;
esac

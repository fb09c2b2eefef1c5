#!/usr/bin/env bash
# Gets a machine ready to build mlx-gpt, then gets out of the way: run by every `make` target, safe to run again at
# any time, done in milliseconds once everything is there.
#
# macOS   checks Xcode, the Metal compiler and cmake; installs nothing. mlx-rs builds MLX itself, as published.
# Linux   installs the build packages, fetches MLX's CPU library from the Python package index (pinned, hashes
#         checked), builds the C interface that mlx-sys expects, and tells Cargo where both are (.cargo/config.toml).
#         Tried on Debian 12 x86_64. arm64 takes the same path and was not tried.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs, then run this again"

case "$(uname -s)" in
  Darwin) exec bash scripts/macos/check.sh ;;
  Linux) exec bash scripts/linux/setup.sh ;;
  *) die "MLX runs on macOS (Apple silicon) and on Linux; this is $(uname -s)" ;;
esac

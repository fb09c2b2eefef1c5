#!/usr/bin/env bash
# macOS: checks what building mlx-rs needs and says which command brings what is missing. Installs nothing.
set -euo pipefail

missing=0
need() { # what, command that fixes it
  printf 'setup: missing: %s\n       fix it with: %s\n' "$1" "$2" >&2
  missing=1
}

[ "$(uname -m)" = arm64 ] || {
  echo "setup: error: MLX needs Apple silicon; this Mac's processor is $(uname -m), for which MLX has nothing" >&2
  exit 1
}
xcode-select -p >/dev/null 2>&1 || need "Xcode" "xcode-select --install   (then Xcode from the App Store, for Metal)"
xcrun --sdk macosx --find metal >/dev/null 2>&1 && xcrun --sdk macosx metal --version >/dev/null 2>&1 ||
  need "the Metal compiler" "xcodebuild -downloadComponent MetalToolchain"
command -v cmake >/dev/null || need "cmake" "brew install cmake"
exit $missing

#!/usr/bin/env bash
# macOS: checks what building mlx-rs needs and says which command brings what is missing. Installs nothing.
set -euo pipefail

missing=0
need() { # what, command that fixes it
  printf 'setup: missing: %s\n       fix it with: %s\n' "$1" "$2" >&2
  missing=1
}

[ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ] || {
  echo "setup: error: MLX needs Apple silicon; this Mac has an Intel processor, for which MLX has nothing" >&2
  exit 1
}
[ "$(uname -m)" = arm64 ] || need "a native terminal (this one runs under Rosetta)" "arch -arm64 make setup"
if ! xcodebuild -version >/dev/null 2>&1; then
  need "Xcode (the command-line tools alone have no Metal compiler)" \
    "install Xcode from the App Store, then: sudo xcode-select -s /Applications/Xcode.app"
elif ! xcrun --sdk macosx metal --version >/dev/null 2>&1; then
  need "the Metal compiler" "xcodebuild -downloadComponent MetalToolchain"
fi
command -v cmake >/dev/null || need "cmake" "brew install cmake"
exit $missing

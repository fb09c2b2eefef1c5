# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its variables are its caller's and for its caller
# Sourced by setup.sh, BACKEND=source: checks the requirements for building MLX, and prints the commands that install what is missing.
# Cargo builds MLX with mlx-rs, as published; `make build` then checks the program.

missing=
need() { # what, command that fixes it
  printf 'setup: missing: %s\n       fix it with: %s\n' "$1" "$2" >&2
  missing=yes
}

if ! xcodebuild -version >/dev/null 2>&1; then
  need "Xcode (the Command Line Tools alone have no Metal compiler)" \
    "install Xcode from the App Store, then: sudo xcode-select -s /Applications/Xcode.app"
elif ! xcrun --sdk macosx metal --version >/dev/null 2>&1; then
  need "the Metal compiler" "xcodebuild -downloadComponent MetalToolchain"
fi
command -v cmake >/dev/null || need "cmake" "brew install cmake"
[ -z "$missing" ] || die "MLX cannot be built here; as its authors built it, it needs the Command Line Tools alone: BACKEND=wheel make setup"

# The configuration of BACKEND=wheel would replace mlx-sys's own build.
! grep -q scripts/macos/setup.sh .cargo/config.toml 2>/dev/null || rm .cargo/config.toml
if [ "$(cat .mlx/backend 2>/dev/null || true)" != source ]; then
  folder .mlx
  printf source | write .mlx/backend
fi

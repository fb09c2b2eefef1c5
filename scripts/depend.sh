#!/usr/bin/env bash
# Adds this library to another package: the dependency in its Cargo.toml and, on Linux, the path of MLX in its Cargo configuration.
#
#   bash scripts/depend.sh ../my-package
#
# Where mlx-sys builds MLX itself, on a Mac with Xcode, the dependency suffices. Where `make setup` fetched MLX, the package gets a
# .cargo/config.toml for this machine, with paths into this checkout's .mlx/: don't commit it, and run this script again on other
# machines.
set -euo pipefail

die() {
  printf 'depend: error: %s\n' "$*" >&2
  exit 1
}

package=$(cd "${1:-.}" 2>/dev/null && pwd -P) || die "there is no folder ${1:-.}; create a package with: cargo new ${1:-.}"
cd -P "$(dirname "$0")/.."
checkout=$PWD
[ -f "$package/Cargo.toml" ] || die "$package is not a package; create one with: cargo new $package"
[ "$package" != "$checkout" ] || die "that is this library itself; give another package's folder"

config=$package/.cargo/config.toml
mark="# Written by mlx-gpt's scripts/depend.sh: where MLX is on this machine. Not to be committed."
if [ -f "$config" ] && ! grep -qxF "$mark" "$config"; then
  die "$config is not this script's; move it away, run this again, and add its lines to the new one"
fi

bash scripts/setup.sh
if [ -f .cargo/config.toml ]; then
  triple=$(rustc -vV | sed -n 's/^host: //p')
  rpath=$(sed -n 's/^MLX_GPT_RPATH = "\(.*\)"$/\1/p' .cargo/config.toml)
  [ -n "$rpath" ] || die "$checkout/.cargo/config.toml does not say where MLX is; move it away and run make setup"
  mkdir -p "$package/.cargo"
  {
    printf '%s\n' "$mark"
    # This library's build script sets the path of libmlx.so only for its own programs; a flag sets it for all.
    printf '[target.%s]\nrustflags = ["-C", "link-arg=-Wl,-rpath,%s"]\nrustdocflags = ["-C", "link-arg=-Wl,-rpath,%s"]\n\n' \
      "$triple" "$rpath" "$rpath"
    # Only the path of MLX, without other settings in that file.
    awk '/^\[/ { ours = $0 == "[env]" || $0 ~ /^\[target\..*\.mlx\]$/ } ours && !/^#/' .cargo/config.toml
  } >"$config.making"
  mv "$config.making" "$config"
  printf 'depend: wrote %s\n' "$config" >&2
elif ! grep -q 'profile.dev.build-override' "$package/Cargo.toml"; then
  # Without it mlx-sys builds MLX for debugging, which is many times slower.
  printf '\n[profile.dev.build-override]\ndebug-assertions = false\n' >>"$package/Cargo.toml"
fi
# The tested versions of dependencies, if the package has no lock file yet.
[ -f "$package/Cargo.lock" ] || cp Cargo.lock "$package/Cargo.lock"
cargo add --quiet --manifest-path "$package/Cargo.toml" --path "$checkout" --no-default-features mlx-gpt
printf 'depend: added mlx-gpt to %s\n' "$package/Cargo.toml" >&2

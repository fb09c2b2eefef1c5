#!/usr/bin/env bash
# Lets another package use this library: adds the dependency to its Cargo.toml and, on Linux, tells its Cargo where MLX is.
#
#   bash scripts/depend.sh ../my-package
#
# On macOS mlx-sys builds MLX itself, and the dependency is all that it takes. On Linux the package gets a
# .cargo/config.toml, for this machine alone, with paths into this checkout's .mlx/: don't commit it, and run this again
# where it is missing.
set -euo pipefail
package=$(realpath "${1:-.}")
cd "$(dirname "$0")/.."
checkout=$PWD

die() {
  printf 'depend: error: %s\n' "$*" >&2
  exit 1
}
[ -f "$package/Cargo.toml" ] || die "$package is no package; make one with: cargo new $package"
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
  [ -n "$rpath" ] || die "$checkout/.cargo/config.toml does not say where MLX is; delete it and run make setup"
  mkdir -p "$package/.cargo"
  {
    printf '%s\n' "$mark"
    # This library's build script tells the linker where libmlx.so is for its own programs only; a flag tells it for all.
    printf '[target.%s]\nrustflags = ["-C", "link-arg=-Wl,-rpath,%s"]\nrustdocflags = ["-C", "link-arg=-Wl,-rpath,%s"]\n\n' \
      "$triple" "$rpath" "$rpath"
    # Where MLX is, and nothing else that somebody may have put there.
    awk '/^\[/ { ours = $0 == "[env]" || $0 ~ /^\[target\..*\.mlx\]$/ } ours && !/^#/' .cargo/config.toml
  } >"$config.making"
  mv "$config.making" "$config"
  printf 'depend: wrote %s\n' "$config" >&2
elif ! grep -q 'profile.dev.build-override' "$package/Cargo.toml"; then
  # Without it mlx-sys builds MLX for debugging, which is many times slower.
  printf '\n[profile.dev.build-override]\ndebug-assertions = false\n' >>"$package/Cargo.toml"
fi
# The versions that were tested, where the package has none yet.
[ -f "$package/Cargo.lock" ] || cp Cargo.lock "$package/Cargo.lock"
cargo add --quiet --manifest-path "$package/Cargo.toml" --path "$checkout" --no-default-features mlx-gpt
printf 'depend: added mlx-gpt to %s\n' "$package/Cargo.toml" >&2

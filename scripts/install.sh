#!/usr/bin/env bash
# Installs mlx-gpt: the program into $PREFIX/bin, and MLX's library, unless it is linked statically, into $PREFIX/share/mlx-gpt,
# which build.rs puts first in the library path. PREFIX defaults to ~/.cargo, whose bin folder Rust's installer adds to PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/setup/steps.sh
say() { printf 'install: %s\n' "$*" >&2; }

prefix=${PREFIX:-${CARGO_HOME:-$HOME/.cargo}}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)

bash scripts/build.sh
mlx=$(sed -n 's/^MLX_GPT_RPATH = "\(.*\)\/mlx\/lib"$/\1/p' .cargo/config.toml 2>/dev/null || true)
if [ -n "$mlx" ]; then # otherwise mlx-rs linked MLX statically
  share=$prefix/share/mlx-gpt
  # Copied next to the destination first, so that what fails replaces nothing, and the program never finds an incomplete copy.
  rm -rf "$share.making" && mkdir -p "$share.making/mlx"
  cp -R "$mlx/mlx/lib" "$share.making/mlx/"
  # The compiler script, and the libraries of MLX's wheel. With CUDA, also NVIDIA's; those of a Python environment are links, and
  # stay there.
  if [ "$(uname -s)" = Linux ]; then
    cp -R "$mlx/mlx/include" "$share.making/mlx/"
    cp -R "$mlx/bin" "$mlx"/mlx_c*.libs "$share.making/"
    for part in nvidia stand-ins; do [ ! -e "$mlx/$part" ] || cp -R "$mlx/$part" "$share.making/"; done
  fi
fi
# The profile of `make train`, so that nothing is compiled twice.
cargo install --quiet --locked --force --debug --path . --root "$prefix"
if [ -n "$mlx" ]; then
  put "$share.making" "$share"
  say "MLX is in $share"
  [ "$(uname -s)" != Linux ] || ! command -v strip >/dev/null || strip --strip-debug "$prefix/bin/mlx-gpt"
fi

"$prefix/bin/mlx-gpt" --version >/dev/null
case ":$PATH:" in
  *":$prefix/bin:"*) say "done; anywhere: mlx-gpt train" ;;
  *) say "done: $prefix/bin/mlx-gpt; put that folder on your PATH: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac

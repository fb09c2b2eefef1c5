#!/usr/bin/env bash
# Installs mlx-gpt: the program into $PREFIX/bin, and what it needs of MLX into $PREFIX/share/mlx-gpt, where build.rs
# has it look first, unless MLX is in the program. PREFIX is ~/.cargo unless it is set, whose bin Rust's installer puts on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install: %s\n' "$*" >&2; }

prefix=${PREFIX:-${CARGO_HOME:-$HOME/.cargo}}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)

bash scripts/build.sh
# The profile that `make train` builds with, so that nothing is compiled a second time.
cargo install --quiet --locked --force --debug --path . --root "$prefix"

mlx=$(sed -n 's/^MLX_GPT_RPATH = "\(.*\)\/mlx\/lib"$/\1/p' .cargo/config.toml 2>/dev/null || true)
if [ -n "$mlx" ]; then # else mlx-rs built MLX, which is in the program
  share=$prefix/share/mlx-gpt
  # Beside its place first, so that the program never finds half of it.
  rm -rf "$share.making" && mkdir -p "$share.making/mlx"
  cp -R "$mlx/mlx/lib" "$share.making/mlx/"
  # What the program needs to compile kernels, and libraries of MLX's wheel. NVIDIA's, where MLX's backend is CUDA: those of a
  # Python environment are links, and stay there.
  if [ "$(uname -s)" = Linux ]; then
    cp -R "$mlx/mlx/include" "$share.making/mlx/"
    cp -R "$mlx/bin" "$mlx"/mlx_c*.libs "$share.making/"
    for part in nvidia stand-ins; do [ ! -e "$mlx/$part" ] || cp -R "$mlx/$part" "$share.making/"; done
    ! command -v strip >/dev/null || strip --strip-debug "$prefix/bin/mlx-gpt"
  fi
  rm -rf "$share" && mv "$share.making" "$share"
  say "MLX is in $share"
fi

"$prefix/bin/mlx-gpt" --version >/dev/null
case ":$PATH:" in
  *":$prefix/bin:"*) say "done; anywhere: mlx-gpt train" ;;
  *) say "done: $prefix/bin/mlx-gpt; put that folder on your PATH: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac

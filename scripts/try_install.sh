#!/usr/bin/env bash
# Installs into a temporary folder, then trains and generates in an empty folder without access to the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
PREFIX=$place/prefix bash scripts/install.sh
program=$place/prefix/bin/mlx-gpt
mkdir "$place/empty" "$place/cache"
cd "$place/empty"

# With an empty cache, so that compiling kernels is tested as well.
cat >"$place/try" <<TRY
set -e
export XDG_CACHE_HOME=$place/cache
$program train --steps 3 --layers 1 --heads 1 --embd 16 --context 16 --batch-size 2 --eval-batches 1 --device cpu
$program generate --max-new-tokens 20 --device cpu
TRY

hidden=()
if [ "$(uname -s)" = Linux ]; then
  mlx=$(sed -n 's/^MLX_GPT_RPATH = "\(.*\)\/mlx\/lib"$/\1/p' "$checkout/.cargo/config.toml")
  if ldd "$program" | grep -F -e "$checkout" -e "$mlx"; then
    echo "error: the installed program uses the checkout's libraries" >&2
    exit 1
  fi
  hidden=("$checkout" "$mlx")
fi

# If namespaces are available, the checkout is hidden while the program runs.
hide=$(printf 'mount -t tmpfs none %q && ' ${hidden[@]+"${hidden[@]}"})
if [ ${#hidden[@]} -gt 0 ] && unshare --user --map-root-user --mount sh -c "$hide true" 2>/dev/null; then
  unshare --user --map-root-user --mount sh -c "$hide exec bash $place/try"
else
  bash "$place/try"
fi
ls runs/*/step-000003/model.safetensors >/dev/null
echo "install: trains and writes in an empty folder${hidden:+, without the checkout}" >&2

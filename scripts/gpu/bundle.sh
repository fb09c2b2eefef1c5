#!/usr/bin/env bash
# Packs everything that scripts/gpu.sh needs on a machine with an NVIDIA GPU but without Rust, compiler and network: the program, test
# programs, MLX's library, and compiled kernels if KERNELS names a folder of them (a user's ~/.cache/mlx-gpt/gpu-kernels).
# ARCH=90 keeps only the GPU code of one architecture (90 is Hopper), a quarter of the size; by default all are kept.
#
#     BACKEND=cuda make setup && ARCH=90 make gpu-bundle
#     tar xf mlx-gpt-gpu.tar.xz && bash mlx-gpt-gpu/scripts/gpu.sh      there
set -euo pipefail
cd "$(dirname "$0")/../.."
say() { printf 'bundle: %s\n' "$*" >&2; }
die() {
  printf 'bundle: error: %s\n' "$*" >&2
  exit 1
}

backend=$(cat .mlx/backend 2>/dev/null || true)
case $backend in cuda-*) ;; *) die "the program is built for MLX's ${backend:-CPU} backend; run BACKEND=cuda make setup first" ;; esac
tests=(parity components generation checkpoint resume) # those of scripts/gpu/parts.py
chosen=()
for name in "${tests[@]}"; do chosen+=(--test "$name"); done
cargo build --quiet
# The newest build's files: Cargo names them in its messages.
mapfile -t binaries < <(cargo test --no-run --message-format json "${chosen[@]}" 2>/dev/null |
  python3 -c 'import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if m.get("executable") and m["target"]["kind"] == ["test"]: print(m["executable"])')
[ ${#binaries[@]} = ${#tests[@]} ] || die "the tests did not compile; cargo test --no-run says why"
target=$(dirname "$(dirname "${binaries[0]}")")

whole=$(mktemp -d)
trap 'rm -rf "$whole"' EXIT
to=$whole/mlx-gpt-gpu
mkdir -p "$to/bin/tests" "$to/mlx/lib" "$to/scripts/linux/cuda" "$to/scripts/bench" "$to/tests" "$to/kernels"
strip -o "$to/bin/mlx-gpt" "$target/mlx-gpt"
for binary in "${binaries[@]}"; do
  name=$(basename "$binary")
  strip -o "$to/bin/tests/${name%-*}" "$binary"
done
cp .mlx/cuda/bin/compile_kernel "$to/bin/"
cp .mlx/cuda/mlx/lib/libmlx.so "$to/mlx/lib/"
[ -z "${ARCH:-}" ] || python3 scripts/slim_fatbin.py "$to/mlx/lib/libmlx.so" "$ARCH"
cp -r .mlx/cuda/mlx/include "$to/mlx/"
cp -r .mlx/cuda/mlx_cuda_*.libs "$to/"
find "$to" -type l -delete # to stand-ins, which would be found before a system's libraries
[ -z "${KERNELS:-}" ] || cp "$KERNELS"/*.kernel "$to/kernels/"
echo "${backend#cuda-}" >"$to/cuda"
cp scripts/linux/cuda/needed.py "$to/scripts/linux/cuda/"
cp scripts/bench/torch_gpu.py "$to/scripts/bench/"
cp -r scripts/gpu.sh scripts/gpu "$to/scripts/"
cp -r tests/fixtures "$to/tests/"
out=${OUT:-mlx-gpt-gpu.tar.xz}
say "packing $(du -sh "$to" | cut -f1)"
# Programs that have most of their code in common: the window is larger than all of them.
tar -C "$whole" -c mlx-gpt-gpu | xz --lzma2=preset=6,dict=256MiB -T1 >"$out.making"
mv "$out.making" "$out"
size=$(stat -c %s "$out")
say "$out, $((size / 1000000)) MB"
[ -z "${ARCH:-}" ] || [ "$size" -le 60000000 ] || die "$out is larger than 60 MB"

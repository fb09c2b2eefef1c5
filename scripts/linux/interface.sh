# Sourced by setup.sh, and by ../board/cross.sh for another processor: builds MLX's C interface and its Rust declarations from the
# sources in the mlx-sys crate. `cross` is the prefix of the compiler's name, `target_flags` what bindgen has to know of the processor.

# Into FOLDER/lib.
build_interface() { # INCLUDE FOLDER
  local mlx_c interface=${interface:-$root/.mlx/interface} made_of own cflags cxxflags kernel_flags sizes=() processors
  processors=$(nproc)
  mlx_c=$(mlx_c_sources "$triple")
  cflags=(-O2 -fPIC "-I$mlx_c" "-I$1" -Ikernels)
  cxxflags=(-std=c++20 -include "$root/$here/format.h" -include "$root/$here/half.h")
  # Vectorisation needs the exponential inlined, without errno and floating-point exceptions. MLX's exponential reinterprets the
  # bits of floats as integers.
  kernel_flags=(-O3 -fno-math-errno -fno-trapping-math -finline-limit=10000 -fno-strict-aliasing)
  own=("$here"/*.cpp)
  [ "$backend" = cpu ] || own+=("$here"/cuda/*.cpp)

  # mlx-c is the same for every backend.
  made_of=$(cat "$mlx_c"/mlx/c/*.* "$here"/interface.sh "$here"/*.h "$1/mlx/version.h" | sha256sum | cut -d" " -f1)-$("${cross:-}g++" -dumpfullversion)
  if [ "$(cat "$interface/complete" 2>/dev/null)" != "$made_of" ]; then
    folder "$2/interface"
    step "the C interface did not compile" compile "$2/interface" "$mlx_c"/mlx/c/*.cpp -- "${cross:-}g++" "${cflags[@]}" "${cxxflags[@]}"
    printf '%s' "$made_of" | write "$2/interface/complete"
    put "$2/interface" "$interface"
  fi
  folder "$2/objects"
  step "the kernels did not compile" compile "$2/objects" kernels/*.cpp -- "${cross:-}g++" "${cflags[@]}" "${cxxflags[@]}" "${kernel_flags[@]}"
  step "what replaces functions of MLX's did not compile" compile "$2/objects" "${own[@]}" -- "${cross:-}g++" "${cflags[@]}" "${cxxflags[@]}"
  # All overrides are linked into one object, so that the linker does not drop any of them.
  step "the kernels did not link" "${cross:-}gcc" "${cflags[@]}" -nostdlib -r $here/*.c kernels/*.c "$2"/objects/*.o -o "$2/replaced.o"
  step "the C interface could not be packed" "${cross:-}ar" crs "$2/lib/libmlxc.a" "$2/replaced.o" "$interface"/*.o

  for header in "$mlx_c"/mlx/c/*.h; do printf '#include "%s"\n' "$header"; done | write "$2/all.h"
  bindgen --help 2>&1 | grep -q -- '--no-size_t-is-usize' || sizes=(--size_t-is-usize) # the default since bindgen 0.61
  step "bindgen could not read mlx-c's headers" bindgen "${sizes[@]}" --no-layout-tests --blocklist-function 'malloc|realloc' \
    --blocklist-type 'float16_t|bfloat16_t' \
    --raw-line '#[repr(C)] #[derive(Debug, Default, Copy, Clone)] pub struct float16_t(pub u16);' \
    --raw-line 'pub type bfloat16_t = u16;' \
    "$2/all.h" -o "$2/lib/bindings.rs" -- "${target_flags[@]}" "-I$mlx_c" -include "$root/$here/half.h"
  # mlx-rs takes C's characters for signed here, as on a Mac and on x86_64; on Linux's Arm they are not.
  step "the declarations could not be changed" sed -i '/pub fn mlx_pad(/,/->/s/\*const ::std::os::raw::c_char/*const i8/' "$2/lib/bindings.rs"
}

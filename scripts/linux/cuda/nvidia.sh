# Sourced by setup.sh: NVIDIA's libraries, on which MLX's library depends. With a driver, those that neither the system nor this
# Python has are downloaded. Without one nothing can call them, and they are 1.5 GB: stubs then let programs link and start, and
# print what is missing (driver.cpp).

nvidia_libraries() { # FOLDER
  local missing making=$mlx/making.nvidia
  missing=$(python3 $here/cuda/needed.py "$mlx" "${backend#cuda-}") || die "NVIDIA's libraries could not be looked for"
  if [ -n "$(driver)" ]; then
    if [ -n "$missing" ]; then
      rm -rf "$making"
      folder "$making"
      only "$requirements" "$missing" | write "$making/wanted"
      say "fetching NVIDIA's libraries ($(names "$making/wanted"))"
      fetch "$making/wanted" "$making"
      step "NVIDIA's libraries could not be put in their place" cp -rlf "$making/nvidia" "$mlx/"
    fi
    rm -rf "$mlx/stand-ins"
  elif [ -n "$missing" ]; then
    say "no driver answers: stand-ins for NVIDIA's libraries, so that programs link; make setup fetches them once there is one"
    rm -rf "$making"
    folder "$making"
    make_stand_ins "$1" "$making"
    put "$making" "$mlx/stand-ins"
  fi
}

# A stub library for each dependency of MLX's library, with every function that it imports. They are found last: by links in the
# last folder of its search path.
make_stand_ins() { # FOLDER-OF-MLX FOLDER
  local library=$1/mlx/lib/libmlx.so links name symbols
  links=$(echo "$1"/mlx_cuda_*.libs)
  symbols=$(nm -D --undefined-only --with-symbol-versions "$library" | sed 's/^ *[Uw] //')
  for name in $(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(lib\(cublasLt\|cudnn\|cufft\|nccl\|nvrtc\)\.so\.[0-9]*\)\].*/\1/p'); do
    {
      printf '%s\n' '#include <unistd.h>' 'static void end(void) {' \
        "  static const char line[] = \"error: this build needs $name, which is missing; run: make setup\\n\";" \
        '  _exit(write(2, line, sizeof line - 1) < 0 ? 2 : 1);' '}'
      # NCCL's functions have no version.
      printf '%s\n' "$symbols" | awk -F @ -v name="$name" '$2 == name || ($2 == "" && /^nccl/ && name ~ /^libnccl/) { print "void " $1 "(void) { end(); }" }'
    } | write "$2/$name.c"
    printf '%s { global: *; };\n' "$name" | write "$2/$name.map"
    step "a stand-in for $name did not link" gcc -shared -fPIC -fno-builtin -Wl,-soname,"$name" -Wl,--version-script,"$2/$name.map" \
      "$2/$name.c" -o "$2/$name"
    ln -sf "../stand-ins/$name" "$links/$name"
  done
  rm "$2"/*.c "$2"/*.map
}

# Sourced by setup.sh: downloads MLX and its dependencies from the Python package index.

# Downloads packages with pip and unpacks them into FOLDER. REQUIREMENTS has versions and hashes; `platforms` are pip's options for
# another processor than this machine's (../board/cross.sh), which `machine` names as `uname -m` does.
fetch() { # REQUIREMENTS FOLDER
  local wheel
  step "$(names "$1") could not be fetched" python3 -m pip download --quiet --disable-pip-version-check --retries 2 --no-deps \
    --only-binary=:all: --require-hashes "${platforms[@]}" -r "$1" -d "$2"
  for wheel in "$2"/*.whl; do
    step "$(basename "$wheel") could not be unpacked" python3 -m zipfile -e "$wheel" "$2"
    rm "$wheel"
  done
}

names() { # REQUIREMENTS
  sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' "$1" | paste -sd ' ' -
}

# Installs MLX into FOLDER, with OpenBLAS instead of the reference BLAS in its wheel (180 versus 5 GFLOP/s on two cores). OpenBLAS
# chooses kernels for the processor when it is loaded. Distributions' versions are older than many processors, so it comes from
# the package index too.
fetch_mlx() { # FOLDER
  local libraries
  folder "$1"
  without_nvidia "$requirements" | write "$1/wanted"
  fetch "$1/wanted" "$1"
  libraries=$(echo "$1"/mlx_c*.libs)
  mv "$1/scipy_openblas32/lib/libscipy_openblas.so" "$libraries/"
  pass_blas_on "$libraries" "$1"
  [ "$backend" = cpu ] || step "MLX's library could not be changed" python3 $here/cuda/without_driver.py "$1/mlx/lib/libmlx.so"
}

# SciPy's OpenBLAS prefixes its symbols with `scipy_`. This generates a library with the reference BLAS's file name and symbols, in
# which each function is a jump.
pass_blas_on() { # LIBRARIES FOLDER
  local jump reference
  case ${machine:-$(uname -m)} in aarch64 | arm64) jump='b scipy_&' ;; *) jump='jmp scipy_&@PLT' ;; esac
  reference=$(ls "$1"/libblas-*)
  comm -12 <({ "${cross:-}nm" -D --defined-only "$reference" | sed -n 's/.* T //p' && printf 'openblas_%s\n' get_config get_corename set_num_threads; } | sort) \
    <("${cross:-}nm" -D --defined-only "$1/libscipy_openblas.so" | sed -n 's/.* T scipy_//p' | sort) |
    sed "s/.*/.globl &\n.type &, %function\n&: $jump/" | { cat && printf '.section .note.GNU-stack, "", %%progbits\n'; } | write "$2/blas.s"
  grep -q cblas_sgemm: "$2/blas.s" && grep -q openblas_set_num_threads: "$2/blas.s" ||
    die "OpenBLAS has not the functions that it should; is $requirements another version's?"
  step "the library between MLX and OpenBLAS did not link" "${cross:-}gcc" -shared -nostdlib -Wl,-soname,"$(basename "$reference")" \
    -Wl,-rpath,"\$ORIGIN" "$2/blas.s" -L"$1" -lscipy_openblas -o "$2/blas.so"
  mv "$2/blas.so" "$reference"
}

# The lines of REQUIREMENTS without NVIDIA's packages; or only the packages in NAMES, one per line.
without_nvidia() { # REQUIREMENTS
  awk '/^[a-z]/ { skipping = /^nvidia-/ } !skipping' "$1"
}
only() { # REQUIREMENTS NAMES
  awk -v names="$2" 'BEGIN { split(names, list); for (i in list) wanted[list[i]] = 1 }
    /^[a-z]/ { split($0, word, "=="); taking = word[1] in wanted } /^#/ { taking = 0 } taking' "$1"
}

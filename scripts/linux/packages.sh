# Sourced by setup.sh: installs the system's packages.

install_packages() { # PACKAGES…, besides those of every build
  local packages=("$@") as_root=()
  # bindgen reads mlx-c's headers, {fmt} stands in for std::format before GCC 13.
  command -v g++ >/dev/null || packages+=(g++)
  command -v bindgen >/dev/null || packages+=(bindgen)
  compgen -G '/usr/lib/*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null ||
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || packages+=(libclang-dev) # libclang-cpp is another library
  [ -e /usr/include/fmt/format.h ] || packages+=(libfmt-dev)
  python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
  if [ ${#packages[@]} = 0 ]; then
    say "1/4 build packages are there"
    return
  fi
  say "1/4 installing ${packages[*]}"
  command -v apt-get >/dev/null || die "this system has no apt-get; install what Debian calls ${packages[*]}, then run this again"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "installing packages needs root or sudo; run as root: apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  step "the list of packages could not be fetched" "${as_root[@]}" apt-get update -qq
  step "${packages[*]} could not be installed" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

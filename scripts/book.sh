#!/usr/bin/env bash
# Builds the book from what the lessons have shown.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.5.4
mdbook=.book/bin/mdbook
if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
  echo "installing mdBook $version into .book/ (once, some minutes)" >&2
  cargo install --quiet --locked --debug --no-default-features --root .book --version "$version" mdbook
fi

rm -rf book/src/shown
cp -R lessons/shown book/src/shown

# mdBook leaves a hole where a file is missing, and succeeds.
missing=0
while IFS= read -r path; do
  if [ ! -e "book/src/${path%%:*}" ]; then
    echo "error: the book includes $path, which is not there; make it with: make lessons" >&2
    missing=1
  fi
done < <(grep -rhoE '(#include |\]\()(shown|\.\.)/[^})]+' book/src/*.md | sed -E 's/^(#include |\]\()//')
[ "$missing" = 0 ]

"$mdbook" build book
echo "open book/out/index.html"

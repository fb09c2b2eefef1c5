#!/usr/bin/env bash
# Uses the studio's pages in a browser: `make studio-check`. Pictures are left in studio-check/.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromedriver >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "studio-check needs Chromium and its driver, chromedriver; install both, then run this again" >&2
    exit 1
  fi
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing Debian's chromium and chromium-driver (once)" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null
fi
rm -rf studio-check
python3 scripts/studio_check.py target/debug/mlx-gpt studio-check

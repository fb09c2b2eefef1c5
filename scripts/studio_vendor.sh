#!/usr/bin/env bash
# Fetches what the studio's pages use of others into src/studio/pages/vendor/: uPlot, which draws the curves. Only to change the
# version; needs npm. A test compares the files with SHA256SUMS.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.6.32
integrity=sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==

vendor=$PWD/src/studio/pages/vendor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "uplot@$version" >/dev/null
found="sha512-$(openssl dgst -sha512 -binary "uplot-$version.tgz" | base64 -w 0)"
if [ "$found" != "$integrity" ]; then
  echo "uplot $version has the hash $found instead of $integrity; nothing was changed" >&2
  exit 1
fi
tar xzf "uplot-$version.tgz"
cp package/dist/uPlot.iife.min.js "$vendor/uplot.js"
cp package/dist/uPlot.min.css "$vendor/uplot.css"
cp package/LICENSE "$vendor/uplot.LICENSE"
cd "$vendor"
sha256sum uplot.* >SHA256SUMS

#!/usr/bin/env bash
# The package of this crate, as a registry would get it: builds it from what is in it alone, and looks at its size.
set -euo pipefail
cd "$(dirname "$0")/.."
most=10000000

cargo package --quiet --allow-dirty
package=$(ls -t "${CARGO_TARGET_DIR:-target}"/package/mlx-gpt-*.crate | head -n 1)
bytes=$(wc -c <"$package")
echo "package: $package has $bytes bytes; at most $most"
[ "$bytes" -lt "$most" ] || { echo "package: error: leave something out by \`exclude\` in Cargo.toml" >&2 && exit 1; }

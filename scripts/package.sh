#!/usr/bin/env bash
# Builds the crate's package, compiles it from its own contents, and checks its size.
set -euo pipefail
cd "$(dirname "$0")/.."
max_bytes=10000000

cargo package --quiet --allow-dirty
package=$(ls -t "${CARGO_TARGET_DIR:-target}"/package/mlx-gpt-*.crate | head -n 1)
bytes=$(wc -c <"$package")
echo "package: $package has $bytes bytes; at most $max_bytes"
[ "$bytes" -lt "$max_bytes" ] || { echo "package: error: exclude something in Cargo.toml" >&2 && exit 1; }

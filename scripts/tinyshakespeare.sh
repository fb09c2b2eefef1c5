#!/usr/bin/env bash
# Downloads tiny Shakespeare, the 1.1 MB text of most small GPT examples, to data/tinyshakespeare.txt. It is only needed to compare
# losses with other programs: mlx-gpt has its own corpus, assets/shakespeare.txt.
# Safe to run again at any time. An optional argument is another URL to take the same file from.
set -euo pipefail
cd "$(dirname "$0")/.."

url="${1:-https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt}"
sha256=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
file=data/tinyshakespeare.txt

say() { printf 'tinyshakespeare: %s\n' "$*"; }
die() {
  printf 'tinyshakespeare: error: %s\n' "$*" >&2
  exit 1
}

# Linux has sha256sum; macOS has shasum.
if command -v sha256sum >/dev/null; then
  is_right() { [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$sha256" ]; }
elif command -v shasum >/dev/null; then
  is_right() { [ "$(shasum -a 256 <"$1" | cut -d ' ' -f 1)" = "$sha256" ]; }
else
  die "neither sha256sum nor shasum is there to check the download with; install coreutils"
fi

next="to train on it: make train ARGS=\"--corpus $file\""

if [ -f "$file" ] && is_right "$file"; then
  say "$file is already there and right; $next"
  exit 0
fi

# Under a temporary name until it is verified, so that a broken download is never used.
mkdir -p data
part="$file.part"
trap 'rm -f "$part"' EXIT
if command -v curl >/dev/null; then
  curl --fail --silent --show-error --location --output "$part" "$url" ||
    die "curl could not download $url; check the network and run this again"
elif command -v wget >/dev/null; then
  wget --quiet --output-document="$part" "$url" ||
    die "wget could not download $url; check the network and run this again"
else
  die "neither curl nor wget is there to download with; install one of them"
fi
is_right "$part" || die "the file at $url is not tiny Shakespeare (SHA-256 differs); run this again or give another URL"
mv "$part" "$file"
say "wrote $file; $next"

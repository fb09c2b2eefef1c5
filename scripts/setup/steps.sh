# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its variables are its caller's and for its caller
# Sourced by the set-up of each system: messages, errors and locking. For bash 3.2, macOS's version.

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# step WHAT COMMAND…: runs a command quietly. If it fails, one line says what failed and why.
step() {
  local what=$1 said
  shift
  said=$("$@" 2>&1) || fail "$what" "$said"
}

# Reports a failed command: a known cause with its remedy, or else the first line of its output that names an error.
fail() { # WHAT OUTPUT
  local line
  if line=$(told "$2" 'no space left|quota exceeded|file too large'); then
    die "$1: no space is left ($line); make space, then run this again"
  elif line=$(told "$2" 'do not match the hashes'); then
    die "$1: what was fetched is not what was published, its hash is another; run this again, on another network if it stays so"
  elif line=$(told "$2" 'name resolution|resolve host|unreachable|connection refused|connection broken|connection reset|timed out|proxyerror|sslerror|newconnectionerror|network failure'); then
    die "$1: the network or the package index cannot be reached; mend the connection, then run this again"
  elif told "$2" 'no matching distribution' >/dev/null; then
    die "$1: the package index has none for this system; $system_needs"
  elif line=$(told "$2" 'error|fatal|cannot|denied|not found|no such'); then
    die "$1: $line"
  fi
  die "$1: $(printf '%s\n' "$2" | tail -n 1)"
}

told() { # OUTPUT PATTERN
  printf '%s\n' "$1" | grep -i -E -m 1 -e "$2"
}

# lock FILE: waits until no other set-up is running here. The lock is released when this process and its children end.
lock() {
  exec 9>"$1"
  try_lock no && return
  say "another set-up is at work in this checkout; waiting for its end"
  try_lock wait
}

try_lock() {
  if command -v flock >/dev/null; then
    if [ "$1" = wait ]; then flock 9; else flock -n 9; fi
  else # macOS has no flock; a lock belongs to the open file, which this process shares
    python3 -c 'import fcntl, sys; fcntl.flock(9, fcntl.LOCK_EX | (0 if sys.argv[1] == "wait" else fcntl.LOCK_NB))' "$1" 2>/dev/null
  fi
}

# put FROM TO: replaces a file or folder, so that at any time either the new or the old one exists, or TO.before.
put() {
  rm -rf "$2.before"
  [ ! -e "$2" ] || mv "$2" "$2.before"
  mv "$1" "$2"
  rm -rf "$2.before"
}

# Completes interrupted `put`s in FOLDER.
finish_puts() { # FOLDER
  local before
  for before in "$1"/*.before; do
    [ -e "$before" ] || continue
    if [ -e "${before%.before}" ]; then rm -rf "$before"; else mv "$before" "${before%.before}"; fi
  done
}

# Exits on a signal with the signal's exit code, after the running command has ended.
stop_on_signals() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# write FILE: writes standard input atomically.
write() {
  local said
  said=$({ cat >"$1.making" && mv "$1.making" "$1"; } 2>&1) || fail "$1 could not be written" "$said"
}

folder() { # FOLDER
  step "$1 could not be made" mkdir -p "$1"
}

# The folder of the sources of mlx-c, inside the crate mlx-sys.
mlx_c_sources() { # TRIPLE
  local said
  said=$(cargo metadata --format-version 1 --locked --filter-platform "$1" 2>&1 >"$mlx/making.metadata") ||
    fail "Cargo could not fetch the crates" "$said"
  python3 -c 'import json, sys
crates = json.load(open(sys.argv[1]))["packages"]
print(next(crate["manifest_path"] for crate in crates if crate["name"] == "mlx-sys")[:-len("Cargo.toml")] + "src/mlx-c")' "$mlx/making.metadata" ||
    die "Cargo names no crate mlx-sys; is Cargo.lock this checkout's?"
}

# compile FOLDER SOURCES… -- COMPILER FLAGS…: compiles objects into FOLDER, `processors` in parallel. Stops at the first error.
compile() {
  local to=$1 sources
  shift
  sources=("$1")
  shift
  while [ "$1" != -- ]; do
    sources+=("$1")
    shift
  done
  shift
  printf '%s\0' "${sources[@]}" | to=$to xargs -0 -P "$processors" -n 1 sh -c \
    'for source; do :; done; "$@" -c -o "$to/$(basename "$source" .cpp).o" || exit 255' - "$@"
}

# shellcheck shell=bash
# Sourced by scripts that compare with Python packages: `python_env FOLDER PACKAGE…` creates an environment with them in FOLDER,
# once, and sets `python` to its interpreter. An incomplete one, or one with other packages, is created again.
python_env() {
  local folder=$1
  shift
  python=$folder/bin/python
  [ "$(cat "$folder/complete" 2>/dev/null)" = "$*" ] && return
  echo "installing $* into $folder/ (once)" >&2
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$python" -m pip install --quiet --disable-pip-version-check "$@"
  echo "$*" >"$folder/complete"
}

# The environment in .interop/ with the libraries of the interoperability tests.
interop_env() {
  local mlx=mlx
  [ "$(uname -s)" = Darwin ] || mlx='mlx[cpu]' # elsewhere, mlx alone has no backend
  python_env .interop torch transformers mlx-lm "$mlx" peft gguf
}

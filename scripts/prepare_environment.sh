#!/usr/bin/env bash
# Prepares .venv from requirements.lock: exact versions, every hash checked, nothing installed outside this folder.
# Called by make. Two calls at once are safe: the second waits for the first and finds the work done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ready=.venv/.ready
python=.venv/bin/python

is_ready() { [ "$ready" -nt requirements.lock ] && [ "$ready" -nt pyproject.toml ]; }

# The interpreter is run, not only looked up: a pyenv shim exists even where its version is not installed.
fits() { "$1" -c "import sys, $2; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null; }

find_python() {  # $1: a module that the interpreter must have
  local candidate
  for candidate in python3.12 python3.13 python3.11 python3; do
    if fits "$candidate" "$1"; then command -v "$candidate"; return; fi
  done
}

create_with_uv() {
  local found
  found=$(find_python venv)
  uv venv --clear --python "${found:-3.12}" .venv   # without a fitting interpreter uv fetches one
}

create_without_uv() {
  local found
  found=$(find_python ensurepip)
  if [ -z "$found" ]; then
    echo "setup: no Python 3.11, 3.12 or 3.13 with the venv module was found on PATH;" \
      "install one (Debian: python3.11-venv), or install uv, which fetches one by itself." >&2
    exit 1
  fi
  "$found" -m venv --clear .venv
}

install_uv() {  # the locked uv with its hashes, into .venv alone
  awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements.lock > .venv/uv.txt
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
}

if command -v flock >/dev/null; then
  exec 9>>requirements.lock   # opened for appending, never written: the lock leaves no file behind
  flock -n 9 || { echo "setup: another call is preparing .venv; waiting for it"; flock 9; }
fi
is_ready && exit 0

rm -f "$ready"
if command -v uv >/dev/null; then
  uv=uv
  fits "$python" venv || create_with_uv
else
  uv=.venv/bin/uv
  fits "$python" venv || create_without_uv
  [ -x "$uv" ] || install_uv
fi

# The build constraints hold the builder of source-only packages to the locked version as well.
"$uv" pip sync --python "$python" --require-hashes --build-constraints requirements.lock requirements.lock
"$uv" pip install --python "$python" --quiet --no-deps --no-build-isolation --editable .
touch "$ready"

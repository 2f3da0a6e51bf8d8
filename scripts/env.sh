# Sourced by the other scripts: find a Python that Paddle supports, and make or reuse an environment. Where none is
# installed, uv brings one, if it is there.
#
#   prepare_env [EXTRAS [FOLDER]]   installs this checkout with EXTRAS into FOLDER (default: .venv) and puts it on PATH
#
# Variables: PYTHON (interpreter to build the environment with), VENV (folder, in place of .venv).
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# --help answers at once, before there is an environment: with the comment that the script begins with.
for argument in "$@"; do
  if [ "$argument" = --help ] || [ "$argument" = -h ]; then
    awk 'NR > 1 { if (!sub(/^# ?/, "")) exit; print }' "$0"
    exit 0
  fi
done

find_python() {
  local candidate
  # A Python that was asked for by name is taken or refused, never replaced by another. 3.13 comes after those for which
  # there is Paddle2ONNX. Debian's python3 without python3-venv has the module venv, but cannot put pip into it.
  for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3.9 python3.13 python3 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  if [ -z "${PYTHON:-}" ] && command -v uv > /dev/null; then
    echo "No Python from 3.9 to 3.13 with its venv module is installed; uv looks for, or downloads, 3.11 ..." >&2
    uv python install --quiet 3.11 >&2 && uv python find 3.11 && return
  fi
  echo "error: Python 3.9, 3.10, 3.11, 3.12 or 3.13 with its venv module is needed${PYTHON:+, and $PYTHON is not one of them}; install one (on Debian and Ubuntu with python3-venv), or uv, which brings one, or name it: PYTHON=/path/to/python3.11 bash $0" >&2
  return 2
}

# PaddleSeg, where its requirements cannot be met: see setup.py.
install_paddleseg() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 13))' || return 0
  [[ ",$2" == *,cpu* || ",$2" == *,train* || ",$2" == *,gpu* ]] || return 0
  echo "Python 3.13: PaddleSeg is installed without its requirements, beside current OpenCV and NumPy" >&2
  "$1" -m pip install --quiet --disable-pip-version-check --no-deps \
    "paddleseg==$(sed -n 's/^PADDLESEG = "\([^"]*\)".*/\1/p' "$ROOT/setup.py")"
}

# What decides whether an environment is up to date: the requirements and the interpreter.
fingerprint() {
  { echo "$1"; "$2" --version; cat "$ROOT/setup.py"; } | cksum
}

prepare_env() {
  local extras="${1:-cpu}" venv="${2:-${VENV:-$ROOT/.venv}}" python
  if [ ! -x "$venv/bin/python" ]; then
    python="$(find_python)" || return
    echo "Creating $venv with $("$python" --version) ..." >&2
    "$python" -m venv "$venv"
  fi
  local stamp="$venv/.installed-$extras" print
  print="$(fingerprint "$extras" "$venv/bin/python")"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$print" ]; then
    echo "Installing ppliteseg_paddle[$extras] (a few minutes the first time) ..." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel || return
    (cd "$ROOT" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$extras]") || return
    install_paddleseg "$venv/bin/python" "$extras" || return
    echo "$print" > "$stamp"
  fi
  export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
}

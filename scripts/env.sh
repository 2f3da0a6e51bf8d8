# Sourced by the other scripts: find a Python that Paddle supports, and make or reuse an environment.
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
  # A Python that was asked for by name is taken or refused, never replaced by another.
  for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3.9 python3 python}; do
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.9, 3.10, 3.11 or 3.12 with its venv module is needed${PYTHON:+, and $PYTHON is not one of them}; install one, or name it: PYTHON=/path/to/python3.11 bash $0" >&2
  return 2
}

# What decides whether an environment is up to date: the requirements and the interpreter.
fingerprint() {
  { echo "$1"; "$2" --version; cat "$ROOT/setup.py"; } | cksum
}

prepare_env() {
  local extras="${1:-cpu}" venv="${2:-${VENV:-$ROOT/.venv}}" python
  if [ ! -x "$venv/bin/python" ]; then
    python="$(find_python)"
    echo "Creating $venv with $("$python" --version) ..." >&2
    "$python" -m venv "$venv"
  fi
  local stamp="$venv/.installed-$extras" print
  print="$(fingerprint "$extras" "$venv/bin/python")"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$print" ]; then
    echo "Installing ppliteseg_paddle[$extras] (a few minutes the first time) ..." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel
    (cd "$ROOT" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$extras]")
    echo "$print" > "$stamp"
  fi
  export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
}

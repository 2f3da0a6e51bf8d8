#!/usr/bin/env bash
# What a machine can say of the code before the tests run: bash scripts/check.sh [CHECK ...], by default all of them.
# In an activated environment its tools are used (pip install -e '.[cpu,dev]'); else .venv is prepared.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

declare -A CHECKS=(
  [lint]="python -m ruff check ."
  [bandit]="python -m bandit -q -ll -r ppliteseg_paddle scripts"
  [format]="python -m ruff format --check ."
  [types]="python scripts/check_types.py"
  [imports]="lint-imports --no-logo"
  [words]="python scripts/check_words.py"
  [errors]="python scripts/write_errors.py --check"
  [architecture]="python scripts/draw_architecture.py --check"
)
all=(lint format bandit imports words errors architecture types)
chosen=("$@")
[ $# -gt 0 ] || chosen=("${all[@]}")
for name in "${chosen[@]}"; do
  if [ -z "${CHECKS[$name]:-}" ]; then
    echo "error: there is no check '$name'; there are: ${all[*]}" >&2
    exit 2
  fi
done

if [ -z "${VIRTUAL_ENV:-}" ]; then
  prepare_env cpu,deploy,data,dev || exit 2
fi

failed=()
for name in "${chosen[@]}"; do
  if [[ $name == types || $name == imports ]] && ! python -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "== $name: skipped, its tool needs Python 3.10"
    continue
  fi
  echo "== $name: ${CHECKS[$name]}"
  ${CHECKS[$name]} || failed+=("$name")
done
[ ${#failed[@]} -eq 0 ] && exit 0
echo "error: failed: ${failed[*]}; run one again with: bash scripts/check.sh ${failed[0]}" >&2
exit 1

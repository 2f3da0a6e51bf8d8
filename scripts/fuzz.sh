#!/usr/bin/env bash
# Changed files of every kind that strangers may send, read within limits: bash scripts/fuzz.sh [--count N] [--only KIND:SEED]
# Results are kept in fuzz_results/; a run that was interrupted is continued. Linux only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
  source scripts/env.sh
  prepare_env cpu,deploy,data,dev || exit 2
fi
PYTHONPATH="tests:$PWD${PYTHONPATH:+:$PYTHONPATH}" exec nice python -m fuzzing "$@"

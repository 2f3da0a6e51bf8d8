#!/usr/bin/env bash
# Changed files of every kind that strangers may send, read within limits: bash scripts/fuzz.sh [--count N] [--first_seed N] [--only KIND:SEED]
# Results are kept in fuzz_results/; a run that was interrupted is continued. Linux only.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
[ -n "${VIRTUAL_ENV:-}" ] || prepare_env cpu,deploy,data,dev
PYTHONPATH="tests:$PWD${PYTHONPATH:+:$PYTHONPATH}" exec nice python -m fuzzing "$@"

#!/usr/bin/env bash
# Trainings that get SIGKILL, SIGTERM, SIGINT, SIGHUP at random moments: bash scripts/kill_test.sh [--count N] [--seed N]
# Each must end bit-equal to the undisturbed run and leave nothing behind. Linux only; some 20 minutes for 50 runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
  source scripts/env.sh
  prepare_env cpu,dev || exit 2
fi
PYTHONPATH="tests:$PWD${PYTHONPATH:+:$PYTHONPATH}" exec nice python tests/kill_test.py "$@"

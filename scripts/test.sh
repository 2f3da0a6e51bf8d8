#!/usr/bin/env bash
# Install everything and run the whole test suite. Arguments go to pytest:
#   bash scripts/test.sh -m fast     what answers in two minutes
#   bash scripts/test.sh -k stdc -n 0
# Variables: TEST_PROCESSES (default: one per two cores, 2 at least); PPLITESEG_PADDLESEG_DIRS, a folder that holds other
# versions of PaddleSeg, unpacked, which tests then train with.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy,data,dev
cd "$ROOT"
cores="$(python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')"
processes="${TEST_PROCESSES:-$(( cores < 4 ? 2 : cores / 2 ))}"
# Threads that have nothing to do wait without spinning: the processes share the cores.
export KMP_BLOCKTIME="${KMP_BLOCKTIME:-0}" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
# A test process that crashes ends the run, which would wait for ever for its tests otherwise.
exec python -m pytest -n "$processes" --max-worker-restart=0 "$@"

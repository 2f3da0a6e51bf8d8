#!/usr/bin/env bash
# What a training step costs on this CPU, in time and in memory, as pixels, batch, classes and levels grow: measured beside a
# prediction, with the exponent of the growth. Writes cost.json, cost.md and cost.png into --save_dir. About five minutes on
# two cores.
#   bash scripts/bench_cost.sh [--axes pixels batch classes levels] [--clock wall|cpu] [--repeats N] [--save_dir DIR]
#   bash scripts/bench_cost.sh --report output/cost/cost.json     # table and figure again
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu
exec python -m ppliteseg_paddle.benchmark.studies.cost "$@"

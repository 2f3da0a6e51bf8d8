#!/usr/bin/env bash
# Rate and latency of `ppliteseg serve` under load, in turns with Predictor.stream on the same files. Writes a table and
# bench_serve.json.
#   bash scripts/bench_serve.sh [--model_dir DIR] [--backend NAME] [--clients N] [--rounds N] [--seconds S] [--save_json FILE]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env serve,runtime
exec python -m ppliteseg_paddle.benchmark.studies.serving "$@"

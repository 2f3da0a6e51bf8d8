#!/usr/bin/env bash
# Inference on this CPU: PaddleSeg's own model, exported its way, against ours, measured round-robin.
# --startup also measures ours from Predictor(...) to the first mask. Writes a table and bench_infer.json.
#   bash scripts/bench_infer.sh [--model T|B] [--size H W] [--num_threads N] [--repeats N] [--startup N] [--save_json FILE]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy
exec python -m ppliteseg_paddle.benchmark.studies.inference "$@"

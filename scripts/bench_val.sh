#!/usr/bin/env bash
# Evaluation on this CPU: PaddleSeg's own network and loop against `ppliteseg val`'s on the same weights and images, in turns,
# beside the exported model alone. Writes a table and bench_val.json.
#   bash scripts/bench_val.sh [--root DIR] [--model T|B] [--model_path FILE|random] [--repeats N] [--save_json FILE]
#   PPLITESEG_CAMVID_ROOT=DIR bash scripts/bench_val.sh      # CamVid in place of generated scenes
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy
exec python -m ppliteseg_paddle.benchmark.studies.validation "$@"

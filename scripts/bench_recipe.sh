#!/usr/bin/env bash
# mIoU on CamVid after an hour of training on this CPU: PaddleSeg's own model, loss and recipe against ours.
# Writes a table and bench_recipe.json.
#   PPLITESEG_CAMVID_ROOT=DIR bash scripts/bench_recipe.sh [--minutes 60] [--repeats N] [--only paddleseg|ppliteseg_paddle] [--save_dir DIR]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu
exec python -m ppliteseg_paddle.benchmark.studies.recipe "$@"

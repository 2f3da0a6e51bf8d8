#!/usr/bin/env bash
# One training sample on one core: PaddleSeg's own data set and transforms, and ours from files and caches, in turns; a table
# and bench_data.json.
#   bash scripts/bench_data.sh [--cases NAME ...] [--images N] [--repeats N] [--save_json FILE]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu
exec python -m ppliteseg_paddle.benchmark.studies.samples "$@"

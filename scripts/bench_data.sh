#!/usr/bin/env bash
# Time of a training sample on one core: PaddleSeg's own data set and transforms against ours, from files and caches,
# measured alternately. Writes a table and bench_data.json.
#   bash scripts/bench_data.sh [--cases NAME ...] [--images N] [--repeats N] [--save_json FILE]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu
exec python -m ppliteseg_paddle.benchmark.studies.samples "$@"

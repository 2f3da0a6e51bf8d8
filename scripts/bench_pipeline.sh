#!/usr/bin/env bash
# Images a second of `ppliteseg predict` on this CPU: a folder of JPEGs, a video and a camera (a file in its place), with overlays as PNGs,
# as JPEGs and at half size, in turns with the model alone on the same runtime, and what each stage costs. Writes a table and bench_pipeline.json.
#   bash scripts/bench_pipeline.sh [--candidates BACKEND:PRECISION ...] [--sources folder folder-jpg folder-half video video-half camera]
#                                  [--size W H] [--repeats N]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy
exec python -m ppliteseg_paddle.benchmark.studies.pipeline "$@"

#!/usr/bin/env bash
# Time of a training step on this CPU: PaddleSeg's own classes against ours, measured alternately.
# Writes a table and bench_train.json. --torch_python .venv-rivals/bin/python adds LibreYOLO's PP-LiteSeg in PyTorch
# (scripts/bench_rivals.sh makes that environment).
# --ranks 2 measures what two processes bring that train jointly, in place of all else.
#   bash scripts/bench_train.sh [--model T|B] [--size H W] [--batch_size N] [--num_threads N] [--repeats N] [--ranks N] [--save_json FILE]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu
exec python -m ppliteseg_paddle.benchmark.studies.training "$@"

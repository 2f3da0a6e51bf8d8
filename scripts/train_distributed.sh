#!/usr/bin/env bash
# Train on several devices or machines, with Paddle's launcher: see docs/distributed.md.
#   bash scripts/train_distributed.sh --nproc_per_node 2 --config FILE [--do_eval ...]
# Flags are those of `ppliteseg train`. EXTRAS=gpu (or another extra of setup.py) chooses the Paddle to install.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env "${EXTRAS:-cpu}"
exec ppliteseg train "$@"

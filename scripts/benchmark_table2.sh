#!/usr/bin/env bash
# The paper's Table 2 on this machine: T1, B1, T2, B2, the STDC-Seg baselines and PaddleSeg's own PP-LiteSeg, by the paper's protocol.
# Writes table2.md, table2.json and the figure to --save_dir (output/table2). Most of the time is spent on the exports, which --exports DIR keeps.
#   bash scripts/benchmark_table2.sh [--device cpu|gpu] [--backend onnxruntime openvino paddle] [--precision fp32 bf16 int8] [--rows T1 PaddleSeg-T1 ...] [--repeats N]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy
exec python -m ppliteseg_paddle.benchmark.studies.table2 "$@"

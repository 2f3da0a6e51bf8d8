#!/usr/bin/env bash
# Time from an image to class ids on this CPU: ours beside YOLO26-sem and LibreYOLO's PP-LiteSeg, in turns, on ONNX Runtime and
# OpenVINO, FP32 and 8 bits. The other packages get an environment of their own (.venv-rivals, 5 GB; Ultralytics' is under the AGPL).
# Writes rivals.json, rivals.md and rivals.png to --save_dir (output/rivals).
#   bash scripts/bench_rivals.sh [--networks NAME ...] [--sizes WxH ...] [--forms fp32 int8 int8-same] [--repeats N] [--save_dir DIR]
#   bash scripts/bench_rivals.sh --report rivals.json     # only its table and figure
#   RIVALS_VENV=DIR bash scripts/bench_rivals.sh          # another folder of that environment, or one that is there
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy
for argument in "$@"; do
  case "$argument" in --report | --report=*) exec python -m ppliteseg_paddle.benchmark.studies.rivals "$@" ;; esac
done
rivals="${RIVALS_VENV:-$ROOT/.venv-rivals}"
if [ ! -x "$rivals/bin/yolo" ] || [ ! -x "$rivals/bin/libreyolo" ]; then
  echo "Making $rivals: PyTorch and the other packages (several minutes, 5 GB) ..." >&2
  python -m venv "$rivals"
  "$rivals/bin/python" -m pip install --quiet --disable-pip-version-check \
    ultralytics==8.4.190 libreyolo==1.6.0 onnx onnxslim onnxruntime openvino nncf
fi
exec python -m ppliteseg_paddle.benchmark.studies.rivals --env "$rivals" "$@"

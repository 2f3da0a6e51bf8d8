#!/usr/bin/env bash
# Predict with the clients of docs/deploy.md, each in an environment of its own: bash scripts/clients.sh [FOLDER]
# FOLDER (default: .venv-clients) keeps the environments: about 8 GB, most of it PyTorch for ncnn's converter.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
folder="$(realpath -m "${1:-.venv-clients}")"

declare -A PACKAGES=(
  [opencv]="opencv-python-headless<5"
  [opencv5]="opencv-python-headless>=5,<6"
  [ncnn]="ncnn pnnx"
  [mnn]="MNN numpy"
  [modelapi]="openvino-model-api"
  [paddlex]="paddlex[cv,serving]==3.7.2 paddlepaddle==3.2.2"
)
if [ -z "${VIRTUAL_ENV:-}" ]; then
  prepare_env cpu,deploy,data,dev || exit 2
fi
for name in "${!PACKAGES[@]}"; do
  [ -f "$folder/$name/complete" ] && continue
  rm -rf "${folder:?}/$name"
  python -m venv "$folder/$name"
  read -ra packages <<< "${PACKAGES[$name]}"
  "$folder/$name/bin/python" -m pip install --quiet "${packages[@]}"
  touch "$folder/$name/complete"
done
PPLITESEG_CLIENTS="$folder" python -m pytest -s -n 0 tests/export/test_clients.py

#!/usr/bin/env bash
# Memory and rate over images of random sizes (5,000), frames (20,000) and crop sizes in training (500):
# bash scripts/soak.sh [--images N] [--frames N] [--crops N] [--runtimes NAME ...] [--json FILE]
# A row for each of Paddle Inference, ONNX Runtime, OpenVINO, TensorRT that is installed, and for training. Status 1 if memory
# rises by more than 300 MB. Linux only; about an hour on two cores.
set -euo pipefail
here="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
[ -n "${VIRTUAL_ENV:-}" ] || prepare_env cpu,deploy,dev
PYTHONPATH="$ROOT/tests:$ROOT${PYTHONPATH:+:$PYTHONPATH}" exec nice python "$ROOT/tests/soak.py" "$@"

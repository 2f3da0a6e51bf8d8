#!/usr/bin/env bash
# The paper's speed table on an NVIDIA GPU with every installed runtime (TensorRT, TensorRT for RTX, ONNX Runtime CUDA, PyTorch,
# Paddle Inference, Paddle-TensorRT), FP32 with TF32 off and on, FP16, INT8; masks are first compared with the CPU's.
# Writes gpu.md and gpu.json to --save_dir (output/gpu). Without a GPU, try it with --device cpu.
#   bash scripts/benchmark_gpu.sh [--device gpu|cpu] [--networks T1 PaddleSeg-T1 ...] [--runtimes tensorrt ...] [--precisions fp32 fp16]
#   PIP_EXTRA="tensorrt onnxruntime-gpu torch onnx2torch" bash scripts/benchmark_gpu.sh   # installs these runtimes first
#   bash scripts/benchmark_gpu.sh --export_only      # only the ONNX files, for --exports DIR on a GPU machine without Paddle
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ -n "${PIP_EXTRA:-}" ]; then
  prepare_env cpu,deploy "${VENV:-$ROOT/.venv-gpu}"  # GPU runtimes replace CPU ones, hence a separate environment
  # onnxruntime and onnxruntime-gpu are two builds of one package: the last one installed is used.
  read -r -a extra <<< "$PIP_EXTRA"
  python -m pip install --quiet --disable-pip-version-check "${extra[@]}" "numpy<2"
else
  prepare_env cpu,deploy
fi
exec python -m ppliteseg_paddle.benchmark.studies.gpu "$@"

#!/usr/bin/env bash
# A short run of every main command, in a separate environment: bash scripts/smoke.sh EXTRAS, for example cpu-paddle26.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
extras="${1:?usage: bash scripts/smoke.sh EXTRAS, one of cpu, cpu-paddle26, cpu-paddle33}"
prepare_env "$extras" "$ROOT/.venv-$extras"
cd "$ROOT"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

ppliteseg doctor
ppliteseg data synth --out "$work/data" --train 8 --val 2 --size 128 96 --seed 0
export PPLITESEG_STREETSCENES_ROOT="$work/data"
config=configs/streetscenes/ppliteseg_t_streetscenes.yml
paddleseg train --config "$config" --save_dir "$work/run" --iters 2 --batch_size 4 --log_iters 1 --do_eval
paddleseg train --config "$config" --save_dir "$work/run" --iters 3 --batch_size 4 --log_iters 1 --num_workers 2 \
  --use_vdl --use_ema --resume_model "$work/run/iter_2"
weights="$work/run/iter_3/model.pdparams"
ppliteseg val --config "$config" --model_path "$weights" --save_json "$work/metrics.json"
ppliteseg export --config "$config" --model_path "$weights" --save_dir "$work/export"
ppliteseg predict --model_dir "$work/export" --image_path "$work/data/images" --save_dir "$work/predictions"
ppliteseg benchmark --model_dir "$work/export" --input_shape 1 3 96 128 --save_json "$work/benchmark.json"

python - "$work" <<'CHECK'
import json, pathlib, sys
work = pathlib.Path(sys.argv[1])
metrics = json.loads((work / "metrics.json").read_text())
assert metrics["images"] == 2 and len(metrics["class_iou"]) == 11 and 0 <= metrics["mIoU"] <= 1, metrics
masks = len(list((work / "predictions" / "mask").rglob("*.png")))
overlays = len(list((work / "predictions" / "overlay").rglob("*.png")))
assert masks == overlays == 10, (masks, overlays)
assert json.loads((work / "benchmark.json").read_text())
CHECK
echo "smoke set passed with $(python -c 'import paddle; print("Paddle", paddle.__version__)' 2>/dev/null)"

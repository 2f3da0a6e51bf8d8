"""Make a folder of shipped weights from two trained ones: the twin, whose figures on `val` count, and those to ship.

    python scripts/ship_weights.py camvid-t --config configs/camvid/ppliteseg_t_camvid_decay.yml \
      --twin output/decay/best.pdparams --weights output/final/iter_N/model.pdparams --facts facts.json

Writes ppliteseg_paddle/weights/shipped/NAME: model.safetensors (float16), NAME-int8/ (ONNX), card.json, README.md; and
prints what zoo.yml needs. `--facts` is JSON with what no program knows: "summary", "data", "licence", "recipe",
"command", "seed", "samples", "hours", "machine", "input", "failures".
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from ppliteseg_paddle.cli.main import main as command  # noqa: E402
from ppliteseg_paddle.files import sha256_of, write_bytes, write_json  # noqa: E402
from ppliteseg_paddle.weights import zoo  # noqa: E402

CALIBRATION_IMAGES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    for flag in ("--config", "--twin", "--weights", "--facts"):
        parser.add_argument(flag, required=True)
    args = parser.parse_args()
    with open(args.facts, encoding="utf-8") as file:
        facts = json.load(file)
    with tempfile.TemporaryDirectory() as scratch:
        val = _measure(args.name, args.config, args.twin, scratch)
        write_json(args.twin + ".val.json", val)  # of use where what follows fails
        folder = os.path.join(zoo.SHIPPED, args.name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        weights = os.path.join(folder, "model.safetensors")
        _run("weights", "convert", args.weights, weights, "--dtype", "float16")
        _export(args.config, weights, os.path.join(folder, f"{args.name}-int8"), "int8", scratch)
    card = {
        "name": args.name,
        "sha256": sha256_of(weights),
        "size": os.path.getsize(weights),
        "config": os.path.splitext(os.path.basename(args.config))[0],
        **facts,
        "val": val,
    }
    write_json(os.path.join(folder, "card.json"), card)
    write_bytes(os.path.join(folder, "README.md"), _readme(card).encode())
    print(f"sha256: {card['sha256']}\nsize: {card['size']}\nmiou: {100 * val['mIoU']:.2f}")


def _measure(name: str, config: str, twin: str, scratch: str) -> dict[str, Any]:
    """Figures on `val` of the twin: float, float16, exported, INT8."""
    half = os.path.join(scratch, "twin.safetensors")
    _run("weights", "convert", twin, half, "--dtype", "float16")
    plain, rounded = (_val(config, weights, scratch) for weights in (twin, half))
    with open(os.path.join(scratch, "worst", "images.json"), encoding="utf-8") as file:
        _draw_failures(
            config, twin, json.load(file)["images"], os.path.join(ROOT, "docs", "images", f"{name}-failures.png")
        )
    folders = [os.path.join(scratch, precision) for precision in ("fp32", "int8")]
    for folder, precision in zip(folders, ("fp32", "int8")):
        _export(config, half, folder, precision, scratch)
    compared = _json("compare", *folders, "--image_path", _list(config), "--save_dir", os.path.join(scratch, "compare"))
    exported, int8 = compared["mIoU"]["values"]
    return {
        "images": plain["images"],
        "mIoU": plain["mIoU"],
        "acc": plain["acc"],
        "class_iou": dict(zip(plain["class_names"], plain["class_iou"])),
        "mIoU_float16": rounded["mIoU"],
        "mIoU_exported": exported,
        "mIoU_int8": int8,
        "ms_exported": compared["speed"]["median_ms"][0],
        "ms_int8": compared["speed"]["median_ms"][1],
    }


def _val(config: str, weights: str, scratch: str) -> dict[str, Any]:
    more = ["--save_dir", os.path.join(scratch, "worst"), "--overwrite"]
    return _json("val", "--config", config, "--model_path", weights, "--device", "cpu", *more, scratch=scratch)


def _export(config: str, weights: str, folder: str, precision: str, scratch: str) -> None:
    more = ["--precision", precision] if precision == "fp32" else _calibration(config, scratch)
    flags = ["--config", config, "--model_path", weights, "--save_dir", folder, "--format", "onnx", "--device", "cpu"]
    _run("export", *flags, *more)


def _calibration(config: str, scratch: str) -> list[str]:
    """Every so many-th training image, with its label."""
    source = _list(config, "train_dataset")
    with open(source, encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip()]
    root, chosen = os.path.dirname(source), lines[:: max(1, len(lines) // CALIBRATION_IMAGES)]
    path = os.path.join(scratch, "calibration.txt")
    text = "".join(" ".join(os.path.join(root, name) for name in names) + "\n" for names in chosen)
    write_bytes(path, text.encode())
    return ["--precision", "int8", "--calib_data", path]


def _list(config: str, key: str = "val_dataset") -> str:
    from ppliteseg_paddle.config.read import expand_env, load

    values, _ = load(config)
    return os.path.join(expand_env(values[key]["dataset_root"]), f"{values[key]['mode']}.txt")


def _json(*words: str, scratch: str | None = None) -> Any:
    path = os.path.join(scratch, f"{len(os.listdir(scratch)):d}.json") if scratch else None
    if path:
        _run(*words, "--save_json", path)
    else:
        _run(*words)
        path = os.path.join(words[-1], "compare.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _run(*words: str) -> None:
    print("$ ppliteseg", *words, file=sys.stderr, flush=True)
    if command(list(words)):
        sys.exit(f"failed: {' '.join(words)}")


def _readme(card: dict[str, Any]) -> str:
    val = card["val"]
    percent = {key: f"{100 * val[key]:.2f}" for key in val if key.startswith("mIoU")}
    classes = [(name.replace("_", " "), f"{100 * iou:.1f}") for name, iou in val["class_iou"].items()]
    return f"""# {card["name"]}

{card["summary"]}

| | |
|---|---|
| data | {card["data"]} |
| licence | {card["licence"]} |
| recipe | `{card["config"]}.yml`: {card["recipe"]} |
| command | `{card["command"]}` |
| seed, samples, hours | {card["seed"]}; {card["samples"]}; {card["hours"]} on {card["machine"]} |
| input | {card["input"]} |
| SHA-256 of model.safetensors | `{card["sha256"]}` |

## Accuracy

On CamVid's `val`, {val["images"]} images, one forward pass, by weights of the same recipe that were trained on `train`
alone. The shipped ones were trained on `train` and `val`: what `val` says of them flatters.

| | mIoU % |
|---|---|
| float32 (`ppliteseg val`) | {percent["mIoU"]} |
| float16 (`model.safetensors`) | {percent["mIoU_float16"]} |
| exported, ONNX, float32 | {percent["mIoU_exported"]} |
| exported, ONNX, INT8 (`{card["name"]}-int8/`) | {percent["mIoU_int8"]} |

IoU % by class: {", ".join(f"{name} {iou}" for name, iou in classes)}. Pixels right: {100 * val["acc"]:.1f} %.

## Known failures

{chr(10).join(f"- {line}" for line in card["failures"])}

The three worst images of `val`, without the photographs, which may not be shown here:

![failures](../../../../docs/images/{card["name"]}-failures.png)
"""


def _draw_failures(config: str, twin: str, scores: list[dict[str, Any]], path: str) -> None:
    """Ground truth, prediction and errors of the images with the lowest mIoU, without the images."""
    import numpy as np

    from ppliteseg_paddle.export.trained import load_trained, trained_predictor
    from ppliteseg_paddle.reading.images import read_image
    from ppliteseg_paddle.reading.labels import read_label
    from ppliteseg_paddle.visual.draw import colorize
    from ppliteseg_paddle.visual.error_map import draw_errors
    from ppliteseg_paddle.visual.grid import Row, grid
    from ppliteseg_paddle.visual.png import write_image

    predictor = trained_predictor(*load_trained(config, twin, device="cpu"), with_scores=False)
    root, rows = os.path.dirname(_list(config)), []
    for score in scores[:3]:
        image, label = (os.path.join(root, score[key]) for key in ("image", "label"))
        mask, truth = predictor.predict(read_image(image)), read_label(label)
        errors = draw_errors(np.full((*truth.shape, 3), 255, np.uint8), truth, mask)
        caption = f"{os.path.basename(image)}: mIoU {100 * score['mIoU']:.1f} %"
        rows.append(Row(colorize(truth, predictor.label_set.palette), None, mask, caption, errors))
    write_image(path, grid(rows, predictor.label_set, headings=("Ground truth", "", "Prediction")))


if __name__ == "__main__":
    main()

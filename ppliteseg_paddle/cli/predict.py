"""Segment images with an exported model (--model_dir), or with a configuration and its weights.

Writes to --save_dir: mask/NAME.png, a palette PNG whose values are class ids, and overlay/NAME.png,
the classes' colours over the image. Folders inside --image_path are kept in NAME."""
from __future__ import annotations

import os
import sys
import time
from typing import Dict, List, NamedTuple, Optional

from ppliteseg_paddle.cli.common import add_flags, palette_of, positive_int
from ppliteseg_paddle.errors import ConfigError, DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".jp2")


class Item(NamedTuple):
    """An image to segment: its path, what its results are called, and its label's path where a list names one."""

    path: str
    name: str
    label: Optional[str] = None


def add_arguments(parser) -> None:
    add_flags(parser, "model_dir", "config", "model_path", "image_path", "save_dir", image_path={"required": True},
              save_dir={"default": "output/predictions"})
    parser.add_argument("--backend", metavar="NAME", help="with --model_dir: what runs it: auto, onnxruntime, openvino, paddle "
                        "or paddle-native (default: auto, the fastest that works)")
    parser.add_argument("--num_threads", type=positive_int, metavar="N", help="with --model_dir: CPU threads (default: all)")
    parser.add_argument("--format", choices=["masks", "cityscapes"], default="masks", help="cityscapes: label ids as the official server "
                        "takes them, checked, and packed as SAVE_DIR/submission.zip (default: %(default)s)")
    parser.add_argument("--palette", metavar="FILE", help="colours of the classes, one 'R G B name' a line")
    parser.add_argument("--grid", metavar="FILE", help="also draw some images, with their ground truth where the list names "
                        "labels, and predictions into one picture")
    parser.add_argument("--grid_images", type=positive_int, default=4, metavar="N", help="rows of it (default: %(default)s)")
    parser.add_argument("--grid_title", default="", metavar="TEXT", help="a line above it")
    add_flags(parser, "device", "opts", "verbose")


def run(args) -> dict:
    from tqdm import tqdm
    from ppliteseg_paddle.deploy.preprocess import read_image
    from ppliteseg_paddle.data.submission import write_prediction
    from ppliteseg_paddle.visual.draw import overlay, write_image, write_mask
    items = find_images(args.image_path)
    if args.grid:
        from ppliteseg_paddle.engine.checkpoint import check_writable
        check_writable(args.grid)
    if args.format == "cityscapes":
        from ppliteseg_paddle.data.submission import check_frames
        check_frames(item.path for item in items)
    predictor = _predictor(args)
    labels = palette_of(args.palette, predictor.label_set)
    palette = labels.palette
    shown = _spread(len(items), args.grid_images) if args.grid else set()
    rows, unreadable, start = [], [], time.perf_counter()
    for i, item in enumerate(tqdm(items, desc="predict", unit="image", file=sys.stderr, disable=None)):
        try:
            image = read_image(item.path)
            mask = predictor.predict(image)
        except DataError as error:  # one bad image must not cost the others
            unreadable.append({"path": item.path, "error": str(error)})
            continue
        if args.format == "cityscapes":
            write_prediction(os.path.join(args.save_dir, "submission"), item.path, mask)
            if i in shown:
                rows.append((image, None, mask, item.name))
            continue
        write_mask(os.path.join(args.save_dir, "mask", item.name + ".png"), mask, palette)
        write_image(os.path.join(args.save_dir, "overlay", item.name + ".png"), overlay(image, mask, palette))
        if i in shown:
            rows.append((image, _truth(item, mask.shape), mask, item.name))
    result = {"images": len(items) - len(unreadable), "save_dir": args.save_dir, "seconds": round(time.perf_counter() - start, 3),
              "backend": predictor.backend.describe(), "unreadable": unreadable, "grid": None, "format": args.format,
             
              "exit_status": 2 if unreadable else 0}
    if args.format == "cityscapes" and not unreadable:
        result["submission"] = _pack(args.save_dir, items)
    if args.grid and rows:
        from ppliteseg_paddle.visual.grid import grid
        write_image(args.grid, grid(rows, labels, args.grid_title))
        result["grid"] = args.grid
    for bad in unreadable:
        print("error: %s" % bad["error"], file=sys.stderr)
    return result


def summary(result: dict) -> str:
    backend = result["backend"]
    lines = ["%s in %.1f s with %s on %s (%s %s)" % (
        _images(result["images"]), result["seconds"], backend["name"], backend["device"], backend["runtime"], backend["version"])]
    submission = result.get("submission")
    if submission:
        lines.append("submission  %s (%d predictions%s)" % (submission["archive"], submission["images"], "" if submission["test_set"] else
                                                             "; the test set has %d" % submission["expected"]))
    elif result["images"] and result["format"] == "masks":
        lines += ["masks       %s" % os.path.join(result["save_dir"], "mask"),
                  "overlays    %s" % os.path.join(result["save_dir"], "overlay")]
    if result["grid"]:
        lines.append("grid        %s" % result["grid"])
    if result["unreadable"]:
        lines.append("%s not segmented; the reasons are on stderr" % _images(len(result["unreadable"])))
    return "\n".join(lines)


def _pack(save_dir: str, items: List[Item]) -> dict:
    from ppliteseg_paddle.data.submission import TEST_IMAGES, check_folder, check_frames, pack
    folder = os.path.join(save_dir, "submission")
    checked = check_folder(folder, check_frames(item.path for item in items))
    return {**checked, "expected": TEST_IMAGES, "folder": folder, "archive": pack(folder, os.path.join(save_dir, "submission.zip"))}


def _images(number: int) -> str:
    return "1 image" if number == 1 else "%d images" % number


def find_images(path: str) -> List[Item]:
    """The images that `path` stands for: an image, a folder (searched with its subfolders), or a list file.

    Raises: DataError: if there is no such path, or no image in it.
    """
    if os.path.isdir(path):
        found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
                       if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith("."))
        if not found:
            raise DataError("the folder %s holds no image (looked for %s)." % (path, ", ".join(IMAGE_ENDINGS)))
        return _named(found, [None] * len(found), path)
    if not os.path.exists(path):
        raise DataError("image_path %s does not exist; give an image, a folder, or a list file." % path)
    if path.lower().endswith(IMAGE_ENDINGS):
        return _named([path], [None], os.path.dirname(path))
    images, labels = _read_list(path)
    there = [image for image in images if os.path.exists(image)] or images  # a missing one must not lengthen all names
    return _named(images, labels, os.path.commonpath([os.path.dirname(os.path.abspath(image)) for image in there]))


def _read_list(path: str):
    """Image and label paths of a list in PaddleSeg's form: `image` or `image label` a line, relative to the list."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError:
        raise DataError("%s is neither an image (%s) nor a text file that lists images." % (path, ", ".join(IMAGE_ENDINGS))) from None
    except OSError as error:
        raise DataError("list %s cannot be read: %s." % (path, error.strerror or error)) from None
    if not lines:
        raise DataError("list %s is empty: it needs one image a line." % path)
    folder = os.path.dirname(path)
    images, labels = [], []
    for line in lines:
        # A name with blanks is one image; else a second field is its label.
        fields = [line] if os.path.exists(os.path.join(folder, line)) else line.split()
        images.append(os.path.join(folder, fields[0]))
        labels.append(os.path.join(folder, fields[1]) if len(fields) > 1 else None)
    return images, labels


def _named(paths: List[str], labels: List[Optional[str]], root: str) -> List[Item]:
    """Name each image by its place below `root`, without its ending unless two names would then be one."""
    relative = [os.path.relpath(path, root or ".") for path in paths]
    count: Dict[str, int] = {}
    for name in set(relative):
        stem = os.path.splitext(name)[0]
        count[stem] = count.get(stem, 0) + 1
    names = [os.path.splitext(name)[0] if count[os.path.splitext(name)[0]] == 1 else name for name in relative]
    return [Item(*fields) for fields in zip(paths, names, labels)]


def _predictor(args):
    if bool(args.model_dir) == bool(args.config or args.model_path):
        raise ConfigError("give either --model_dir EXPORT, or --config FILE and --model_path WEIGHTS.")
    if args.model_dir:
        from ppliteseg_paddle.deploy.predictor import Predictor
        return Predictor(args.model_dir, args.backend or "auto", args.device, args.num_threads)
    if not (args.config and args.model_path):
        raise ConfigError("--config and --model_path belong together: the model, and its weights.")
    if args.backend or args.num_threads:
        raise ConfigError("--backend and --num_threads go with --model_dir: export the model first with 'ppliteseg export'.")
    from ppliteseg_paddle.cli.export import load_trained, val_transforms
    from ppliteseg_paddle.engine.build import label_set_of
    from ppliteseg_paddle.export.paddle import eager_predictor
    config, model = load_trained(args)
    if args.format == "cityscapes":
        from ppliteseg_paddle.engine.predict import EvaluationPredictor
        return EvaluationPredictor(model, config)
    return eager_predictor(model, label_set_of(config), val_transforms(config))


def _spread(count: int, wanted: int) -> set:
    """Indices of `wanted` among `count` images, evenly spread."""
    wanted = min(count, wanted)
    return {round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)}


def _truth(item: Item, shape):
    """The label as (H, W) uint8; None if there is none of the image's size."""
    if item.label is None or not os.path.isfile(item.label):
        return None
    import numpy as np
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(item.label) as file:
            label = np.asarray(file)
    except (OSError, UnidentifiedImageError):
        raise DataError("label %s cannot be decoded; correct the list." % item.label) from None
    return label.astype(np.uint8) if label.shape == shape else None

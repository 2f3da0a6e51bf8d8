"""Segment images, a video or a camera with an exported model (--model_dir), with a configuration and its weights, or,
where none is named, with the model that is part of the package: camvid-t, street scenes of 11 classes.

Writes to --save_dir, for each of --outputs:
  mask/NAME.png        the class ids, a palette PNG (16-bit gray above 256 classes); of a georeferenced TIFF
                       mask/NAME.tif with its tags; with use_multilabel the planes of all classes side by side, 0 and 1
                       (in a TIFF: its bands)
  overlay/NAME.png     the classes' colors over the image (with --overlay_format jpg NAME.jpg)
  color/NAME.png       the classes' colors alone
  confidence/NAME.png  how sure each pixel is: 0 (not at all) to 255, a palette PNG
  rle/NAME.json        each class's pixels as run lengths, a COCO data set of one image; rle.json is one of all images
  geojson/NAME.geojson the classes' regions as polygons along the sides of pixels; of a georeferenced TIFF in its
                       coordinates, else in pixels
Folders inside --image_path are kept in NAME, and so are extensions where names would be equal without them. Of a video,
each is a video; masks are PNGs in mask/NAME/. What earlier runs wrote is replaced, anything else only with --overwrite.
Results in a folder are not segmented."""

from __future__ import annotations

import argparse
from typing import Any

from ppliteseg_paddle import environment
from ppliteseg_paddle.cli.common import (
    ARITHMETIC_HELP,
    FLAGS,
    add_backend,
    add_flags,
    config_for,
    positive_float,
    positive_int,
)
from ppliteseg_paddle.cli.overlay_flags import add_overlay_arguments, check_without_overlays
from ppliteseg_paddle.deploy.predict_report import KINDS, OF_IMAGES_ONLY, OVERLAY_FORMATS
from ppliteseg_paddle.deploy.predict_report import summary as summary
from ppliteseg_paddle.deploy.runtimes import ARITHMETIC, RUNTIMES, readers
from ppliteseg_paddle.deploy.smooth_option import SMOOTH, check_smooth
from ppliteseg_paddle.deploy.sources import find_images, is_video, local
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.label_sets import LABEL_SETS, chosen, recolored

# Flags of Predictor's keyword arguments.
_OPTIONS = (
    *("batch_size", "streams", "unknown_below", "is_slide", "crop_size", "stride"),
    *("max_pixels", "large_images", "mask_resize", "precision"),
)

# Flags that are fields of `ImageRun` under the same name.
_OF_IMAGES = ("overwrite", "skip_existing", "grid", "grid_images", "grid_title", "bands", "overlay_format")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(
        parser,
        "model_dir",
        "config",
        "model_path",
        "image_path",
        "save_dir",
        save_dir={"default": "output/predictions"},
        image_path={
            "help": "an image, a folder of images, a text file with one image a line, a video, or an http(s) "
            "address of an image or a video"
        },
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="a camera's number (0 is the first one) or the address of a stream "
        "(rtsp://...), until it ends, Ctrl-C, or --max_frames",
    )
    parser.add_argument(
        "--max_frames", type=positive_int, metavar="N", help="stop after so many frames of a video or camera"
    )
    parser.add_argument(
        "--smooth",
        type=float,
        nargs="?",
        const=SMOOTH,
        default=0.0,
        metavar="X",
        help="of a video or camera: blend each frame with those before where they agree, so that masks flicker less; X "
        f"is the largest share of earlier frames, 0 (off, the default) to below 1 (--smooth alone: {SMOOTH})",
    )
    parser.add_argument(
        "--outputs",
        nargs="+",
        choices=KINDS,
        metavar="KIND",
        help=f"what to write: {', '.join(KINDS)} (default: mask overlay; of a video: overlay)",
    )
    add_flags(parser, "overwrite")
    parser.add_argument(
        "--skip_existing",
        action="store_true",
        help="keep the results of images that an earlier run wrote, and segment the others: to continue after an "
        "interruption, with the same model",
    )
    add_overlay_arguments(parser)
    parser.add_argument(
        "--unknown_below",
        type=positive_float,
        metavar="X",
        help="pixels less sure than X (0 to 1) are no class: 255 in "
        "the mask (65535 above 255 classes); needs an export with --output_op softmax",
    )
    add_backend(parser, "with --model_dir: {}")
    with_export = {name: {"help": f"with --model_dir: {FLAGS[name]['help']}"} for name in ("num_threads", "streams")}
    add_flags(parser, "num_threads", "streams", **with_export)
    add_flags(
        parser,
        "precision",
        "batch_size",
        "is_slide",
        "crop_size",
        "stride",
        "mask_resize",
        "use_multilabel",
        batch_size={
            "default": 1,
            "help": "images of one size that go through the network together (default: %(default)s)",
        },
        is_slide={
            "default": None,
            "help": "segment by a sliding window: for images much larger than those of the training (default: as the "
            "configuration's test_config, which an export keeps, says)",
        },
        precision={"choices": list(ARITHMETIC), "default": None, "help": f"with --model_dir: {ARITHMETIC_HELP}"},
        use_multilabel={"help": f"with --config: {FLAGS['use_multilabel']['help']}; an export says it itself"},
        mask_resize={
            "help": f"{FLAGS['mask_resize']['help'].rsplit(' (', 1)[0]} (default: as exported; with --config bilinear)"
        },
        crop_size={"help": "size of the window (default: the network's own where it is fixed)"},
        stride={"help": "step of the window (default: two thirds of it)"},
    )
    parser.add_argument(
        "--max_pixels",
        type=positive_int,
        metavar="N",
        help="pixels that go through the network in one piece (default: a quarter of the free memory, at 100 bytes a "
        "pixel and 8 more for each class whose scores leave it, at most 67108864)",
    )
    parser.add_argument(
        "--large_images",
        choices=["windows", "refuse"],
        default="windows",
        help="what becomes of larger images: overlapping windows, or one line on stderr (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=["masks", "cityscapes"],
        default="masks",
        help="cityscapes: label ids as the official server "
        "takes them, checked, and packed as SAVE_DIR/submission.zip (default: %(default)s)",
    )
    add_flags(parser, "palette")
    parser.add_argument(
        "--label_set",
        metavar="NAME",
        help=f"with --model_dir of PaddleSeg's or PaddleX's export: the classes, one of {', '.join(LABEL_SETS)}",
    )
    add_flags(parser, "classes", classes={"help": f"in its place: {FLAGS['classes']['help']}"})
    parser.add_argument(
        "--grid",
        metavar="FILE",
        help="also draw some images, with their ground truth where the list names "
        "labels, and predictions into one picture",
    )
    parser.add_argument(
        "--grid_images", type=positive_int, default=4, metavar="N", help="rows of it (default: %(default)s)"
    )
    parser.add_argument("--grid_title", default="", metavar="TEXT", help="a line above it")
    add_flags(
        parser,
        "device",
        "opts",
        "verbose",
        device={
            "help": "cpu, gpu or gpu:1; with --config also xpu, npu or mlu (default: gpu where the runtime finds one, "
            "else cpu)"
        },
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    _check(args)
    environment.keep_freed_memory()
    if args.camera is not None:
        return _run_video(args, int(args.camera) if args.camera.isdigit() else args.camera)
    with local(args.image_path) as path:
        return _run_video(args, path) if is_video(path) else _run_images(args, path)


def _run_images(args: argparse.Namespace, path: str) -> dict[str, Any]:
    for flag in ("max_frames", "smooth"):
        if getattr(args, flag):
            raise ConfigError(f"--{flag} is for videos and cameras.")
    cityscapes = args.format == "cityscapes"
    kinds = () if cityscapes else _kinds(args, "mask", "overlay")
    items = find_images(path, args.save_dir, kinds or ("submission",))
    from ppliteseg_paddle.deploy.predict_images import ImageRun, predict_images

    wanted = ImageRun(args.save_dir, kinds, cityscapes, **{name: getattr(args, name) for name in _OF_IMAGES})
    return predict_images(items, lambda: _open(args, kinds), wanted)


def _run_video(args: argparse.Namespace, source: str | int) -> dict[str, Any]:
    from ppliteseg_paddle.deploy.predict_video import predict_video

    for flag in ("grid", "format", "skip_existing", "bands", "overlay_format"):
        if getattr(args, flag) not in (None, "masks", False, OVERLAY_FORMATS[0]):
            raise ConfigError(f"--{flag} is for images, not for videos.")
    kinds = _kinds(args, "overlay")
    for kind in kinds:
        if kind in OF_IMAGES_ONLY:
            raise ConfigError(
                f"--outputs {kind} is for images, not for videos: take frames as images (ffmpeg -i VIDEO %06d.png)."
            )
    outputs = Outputs(args.save_dir, args.overwrite)
    return predict_video(source, lambda: _open(args, kinds), outputs, kinds, args.max_frames, args.smooth)


def _kinds(args: argparse.Namespace, *default: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(args.outputs or default))


def _check(args: argparse.Namespace) -> None:
    check_smooth(args.smooth)
    if (args.image_path is None) == (args.camera is None):
        raise ConfigError("give either --image_path PATH (an image, a folder, a list file, a video) or --camera 0.")
    if args.unknown_below is not None and args.format == "cityscapes":
        raise ConfigError(
            "--unknown_below cannot go with --format cityscapes: the server takes a class for every pixel."
        )
    if args.outputs and "overlay" not in args.outputs:
        check_without_overlays(args)
    if (args.crop_size or args.stride) and not args.is_slide:
        raise ConfigError("--crop_size and --stride are the sliding window's: add --is_slide.")


def _open(args: argparse.Namespace, kinds: tuple[str, ...]) -> tuple[Any, Any]:
    """The predictor, and how its masks are drawn."""
    if not (args.model_dir or args.config or args.model_path):
        _take_shipped(args)
    if bool(args.model_dir) == bool(args.config or args.model_path):
        raise ConfigError(
            "give either --model_dir EXPORT, or --config FILE and --model_path WEIGHTS, or published weights by name, "
            "as in --model_path cityscapes-t-scale0.5."
        )
    options = {name: getattr(args, name) for name in _OPTIONS}
    predictor = _exported(args, kinds, options) if args.model_dir else _trained(args, kinds, options)
    from ppliteseg_paddle.visual.overlays import Overlays

    labels = recolored(predictor.label_set, args.palette)
    return predictor, Overlays(labels, args.opacity, not args.no_legend, args.transparent, args.overlay_scale)


def _take_shipped(args: argparse.Namespace) -> None:
    """Name the shipped model: its INT8 export, or where no runtime for that is installed, its weights for Paddle."""
    from ppliteseg_paddle.weights.zoo import DEFAULT, published

    exported = args.backend is not None or any(RUNTIMES[name].installed for name in readers("onnx"))
    setattr(args, "model_dir" if exported else "model_path", DEFAULT)
    row = published()[DEFAULT]
    what = f"{row.network}, {row.classes:d} classes of street scenes{', INT8' if exported else ''}"
    print(f"model: {DEFAULT} ({what}), as none is named")


def _exported(args: argparse.Namespace, kinds: tuple[str, ...], options: dict[str, Any]) -> Any:
    from ppliteseg_paddle.deploy.predictor import Predictor

    labels = chosen(args.label_set, args.classes)
    predictor = Predictor(
        args.model_dir, args.backend or "auto", args.device, args.num_threads, label_set=labels, **options
    )
    if "confidence" in kinds:
        predictor.check_scores("--outputs confidence")
    return predictor


def _trained(args: argparse.Namespace, kinds: tuple[str, ...], options: dict[str, Any]) -> Any:
    """Runs the model itself, from its configuration and weights."""
    if not args.model_path:
        raise ConfigError("--config and --model_path belong together: the model, and its weights.")
    if args.label_set or args.classes:
        raise ConfigError(
            "--label_set and --classes are for exports that do not name their classes: a configuration does."
        )
    if args.backend or args.num_threads or options.pop("streams") > 1 or options.pop("precision"):
        raise ConfigError(
            "--backend, --num_threads, --streams and --precision go with --model_dir: export the model first with "
            "'ppliteseg export'."
        )
    from ppliteseg_paddle.export.trained import load_trained, trained_predictor

    config, model = load_trained(config_for(args), args.model_path, args.opts, args.device, args.verbose)
    with_scores = args.is_slide or args.unknown_below is not None or "confidence" in kinds
    return trained_predictor(config, model, with_scores, **options)

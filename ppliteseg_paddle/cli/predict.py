"""Segment images, a video or a camera with an exported model (--model_dir), or with a configuration and its weights.

Writes to --save_dir, for each of --outputs:
  mask/NAME.png        the class ids, a palette PNG (16-bit grey above 256 classes)
  overlay/NAME.png     the classes' colors over the image
  color/NAME.png       the classes' colors alone
  confidence/NAME.png  how sure each pixel is: 0 (not at all) to 255, a palette PNG
Folders inside --image_path are kept in NAME. Of a video, each is a video; masks are PNGs in mask/NAME/."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from ppliteseg_paddle.cli.common import add_flags, palette_of, positive_float, positive_int
from ppliteseg_paddle.deploy.runtimes import backend_names
from ppliteseg_paddle.deploy.sources import Item, find_images, is_video
from ppliteseg_paddle.errors import ConfigError, DataError

OUTPUTS = ("mask", "overlay", "color", "confidence")
_PLURALS = {"mask": "masks", "overlay": "overlays", "color": "colors", "confidence": "confidences"}
# Flags of Predictor's keyword arguments.
_OPTIONS = ("batch_size", "streams", "unknown_below", "is_slide", "crop_size", "stride")


def add_arguments(parser) -> None:
    add_flags(
        parser,
        "model_dir",
        "config",
        "model_path",
        "image_path",
        "save_dir",
        save_dir={"default": "output/predictions"},
        image_path={"help": "an image, a folder of images, a text file with one image a line, or a video"},
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
        "--outputs",
        nargs="+",
        choices=OUTPUTS,
        metavar="KIND",
        help=f"what to write: {', '.join(OUTPUTS)} (default: mask overlay; of a video: overlay)",
    )
    parser.add_argument(
        "--unknown_below",
        type=positive_float,
        metavar="X",
        help="pixels less sure than X (0 to 1) are no class: 255 in "
        "the mask (65535 above 255 classes); needs an export with --output_op softmax",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help=f"with --model_dir: what runs it, one of {', '.join(backend_names())} (default: auto, the first of them "
        "that works here, those that use a GPU before the others; `doctor` says which are installed)",
    )
    parser.add_argument(
        "--num_threads", type=positive_int, metavar="N", help="with --model_dir: CPU threads (default: all)"
    )
    parser.add_argument(
        "--streams",
        type=positive_int,
        default=1,
        metavar="N",
        help="with --model_dir: copies of the model that work side "
        "by side and share the threads (default: %(default)s)",
    )
    add_flags(
        parser,
        "batch_size",
        "is_slide",
        "crop_size",
        "stride",
        batch_size={
            "default": 1,
            "help": "images of one size that go through the network together (default: %(default)s)",
        },
        is_slide={"help": "segment by a sliding window: for images much larger than those of the training"},
        crop_size={"help": "size of the window (default: the network's own where it is fixed)"},
        stride={"help": "step of the window (default: two thirds of it)"},
    )
    parser.add_argument(
        "--format",
        choices=["masks", "cityscapes"],
        default="masks",
        help="cityscapes: label ids as the official server "
        "takes them, checked, and packed as SAVE_DIR/submission.zip (default: %(default)s)",
    )
    parser.add_argument("--palette", metavar="FILE", help="colors of the classes, one 'R G B name' a line")
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
    add_flags(parser, "device", "opts", "verbose")


def run(args) -> dict:
    if (args.image_path is None) == (args.camera is None):
        raise ConfigError("give either --image_path PATH (an image, a folder, a list file, a video) or --camera 0.")
    if args.unknown_below is not None and args.format == "cityscapes":
        raise ConfigError(
            "--unknown_below cannot go with --format cityscapes: the server takes a class for every pixel."
        )
    if (args.crop_size or args.stride) and not args.is_slide:
        raise ConfigError("--crop_size and --stride are the sliding window's: add --is_slide.")
    if args.camera is not None or is_video(args.image_path):
        return _run_video(args)
    return _run_images(args, find_images(args.image_path))


def summary(result: dict) -> str:
    backend = result["backend"]
    what = _counted(result["frames"], "frame") if "frames" in result else _counted(result["images"], "image")
    lines = [
        f"{what} in {result['seconds']:.1f} s ({result['fps']:.1f} a second) with {backend['name']} on "
        f"{backend['device']} ({backend['runtime']} {backend['version']})"
    ]
    submission = result.get("submission")
    if submission:
        short = "" if submission["test_set"] else f"; the test set has {submission['expected']}"
        lines.append(f"submission  {submission['archive']} ({submission['images']} predictions{short})")
    lines += [f"{_PLURALS[kind]!s:11} {path}" for kind, path in result["outputs"].items()]
    if result["windows"]:
        windows = result["windows"]
        joined = {"averaged": "scores averaged where they overlap", "stitched": "joined in the middle of overlaps"}
        lines.append(
            "windows     {}x{}, every {}x{} pixels; {}".format(
                *windows["crop_size"], *windows["stride"], joined[windows["joined"]]
            )
        )
    if result["unknown"] is not None:
        lines.append(
            f"unknown     {100 * result['unknown']['share']:.1f} % of the pixels (value {result['unknown']['id']:d})"
        )
    if result.get("grid"):
        lines.append(f"grid        {result['grid']}")
    if result.get("frames_missing"):
        lines.append(
            f"the video says that it has {result['frames_missing']:d} more frames, which could not be decoded: it may "
            "be cut off"
        )
    if result.get("unreadable"):
        lines.append(f"{_counted(len(result['unreadable']), 'image')} not segmented; the reasons are on stderr")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------
def _run_images(args, items: list[Item]) -> dict:
    from tqdm import tqdm

    from ppliteseg_paddle.deploy.pipeline import overlapped

    if args.max_frames is not None:
        raise ConfigError("--max_frames is for videos and cameras.")
    if args.grid:
        from ppliteseg_paddle.files import check_writable

        check_writable(args.grid)
    cityscapes = args.format == "cityscapes"
    if cityscapes:
        from ppliteseg_paddle.data.submission import check_frames

        check_frames(item.path for item in items)
    kinds = () if cityscapes else _kinds(args, ("mask", "overlay"))
    predictor = _predictor(args, kinds)
    labels, tally = palette_of(args.palette, predictor.label_set), _Tally(predictor)
    shown = _spread(len(items), args.grid_images) if args.grid else set()

    def write(numbered):
        index, found = numbered
        if found.error is None:
            _write(args, items[index], found, kinds, labels.palette)
        return found if index in shown or found.error else found._replace(image=None)

    rows, unreadable, start = [], [], time.perf_counter()
    stream = _stream(predictor, [item.path for item in items], "confidence" in kinds)
    with contextlib.closing(
        overlapped(write, enumerate_closing(stream), threads=max(1, min(4, (os.cpu_count() or 1) // 2)))
    ) as written:
        for i, found in enumerate(
            tqdm(written, total=len(items), desc="predict", unit="image", file=sys.stderr, disable=None)
        ):
            if found.error is not None:  # one bad image must not cost the others
                unreadable.append({"path": items[i].path, "error": str(found.error)})
                continue
            tally.add(found.mask)
            if i in shown:
                rows.append(
                    (found.image, None if cityscapes else _truth(items[i], found.mask.shape), found.mask, items[i].name)
                )
    result = {
        "images": len(items) - len(unreadable),
        **_common(args, predictor, tally, len(items) - len(unreadable), time.perf_counter() - start),
        "outputs": {kind: os.path.join(args.save_dir, kind) for kind in kinds} if len(unreadable) < len(items) else {},
        "unreadable": unreadable,
        "grid": None,
        "format": args.format,
        "exit_status": 2 if unreadable else 0,
    }
    if cityscapes and not unreadable:
        result["submission"] = _pack(args.save_dir, items)
    if args.grid and rows:
        from ppliteseg_paddle.visual.draw import write_image
        from ppliteseg_paddle.visual.grid import grid

        write_image(args.grid, grid(rows, labels, args.grid_title))
        result["grid"] = args.grid
    for bad in unreadable:
        print(f"error: {bad['error']}", file=sys.stderr)
    return result


def enumerate_closing(stream):
    """`enumerate` that closes the generator that it counts, and with it that one's threads."""
    try:
        yield from enumerate(stream)
    finally:
        stream.close()


def _write(args, item: Item, found, kinds, palette) -> None:
    if args.format == "cityscapes":
        from ppliteseg_paddle.data.submission import write_prediction

        write_prediction(os.path.join(args.save_dir, "submission"), item.path, found.mask)
        return
    from ppliteseg_paddle.deploy.results import write_images

    write_images(args.save_dir, item.name, found, kinds, palette)


def _stream(predictor, paths: list[str], with_confidence: bool):
    """One `Prediction` for each path, in order."""
    if hasattr(predictor, "stream"):
        return predictor.stream(paths, with_confidence=with_confidence, keep_going=True)
    return _one_by_one(predictor, paths)


def _one_by_one(predictor, paths: list[str]):
    from ppliteseg_paddle.deploy.predictor import Prediction
    from ppliteseg_paddle.reading.images import read_image

    for path in paths:
        try:
            image = read_image(path)
            yield Prediction(image, predictor.predict(image))
        except DataError as error:
            yield Prediction(None, None, None, error)


def _pack(save_dir: str, items: list[Item]) -> dict:
    from ppliteseg_paddle.data.submission import TEST_IMAGES, check_folder, check_frames, pack

    folder = os.path.join(save_dir, "submission")
    checked = check_folder(folder, check_frames(item.path for item in items))
    return {
        **checked,
        "expected": TEST_IMAGES,
        "folder": folder,
        "archive": pack(folder, os.path.join(save_dir, "submission.zip")),
    }


def _spread(count: int, wanted: int) -> set:
    """Indices of `wanted` among `count` images, evenly spread."""
    wanted = min(count, wanted)
    return {round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)}


def _truth(item: Item, shape):
    """The label as (H, W) uint8; None if there is none of the image's size."""
    if item.label is None or not os.path.isfile(item.label):
        return None
    from ppliteseg_paddle.reading.labels import read_stored

    label = read_stored(item.label).pixels
    return label.astype("uint8") if label.shape == shape else None


# --------------------------------------------------------------------------------------------
# Videos and cameras
# --------------------------------------------------------------------------------------------
def _run_video(args) -> dict:
    from tqdm import tqdm

    from ppliteseg_paddle.deploy.pipeline import overlapped
    from ppliteseg_paddle.deploy.results import VideoResults
    from ppliteseg_paddle.deploy.video import CODECS, Pace, VideoReader

    for flag in ("grid", "format"):
        if getattr(args, flag) not in (None, "masks"):
            raise ConfigError(f"--{flag} is for images, not for videos.")
    kinds = _kinds(args, ("overlay",))
    source = args.image_path if args.camera is None else int(args.camera) if args.camera.isdigit() else args.camera
    with VideoReader(source) as video:
        predictor = _predictor(args, kinds)
        labels, tally = palette_of(args.palette, predictor.label_set), _Tally(predictor)
        stem, ending = (
            os.path.splitext(os.path.basename(source))
            if not video.live
            else (f"camera{source}" if isinstance(source, int) else "stream", "")
        )
        results = VideoResults(
            args.save_dir,
            stem,
            ending.lower() if ending.lower() in CODECS else ".mp4",
            video.fps,
            kinds,
            labels.palette,
        )
        total = min((n for n in (video.frame_count, args.max_frames) if n is not None), default=None)
        pace, start = Pace(video.fps), time.perf_counter()
        stream = predictor.stream(
            _limited(video, args.max_frames), with_confidence="confidence" in kinds, ahead=1 if video.live else 2
        )
        ending_by_interrupt = _ended_by_interrupt(video) if video.live else contextlib.nullcontext()
        with ending_by_interrupt, results, contextlib.closing(overlapped(results.draw, stream)) as drawn:
            for found, pictures in tqdm(
                drawn, total=total, desc="predict", unit="frame", file=sys.stderr, disable=None
            ):
                results.write(found, pictures, pace.times(time.perf_counter() - start) if video.live else 1)
                tally.add(found.mask)
        seconds = time.perf_counter() - start
    missing = 0 if args.max_frames or not video.frame_count else max(0, video.frame_count - results.frames)
    return {
        "frames": results.frames,
        **_common(args, predictor, tally, results.frames, seconds),
        "outputs": results.paths,
        "video_fps": round(video.fps, 3),
        "size": list(video.size),
        "frames_missing": missing,
    }


@contextlib.contextmanager
def _ended_by_interrupt(video):
    """Ctrl-C is how recordings of a camera end: the first one stops the reading, and what was read is still segmented
    and written.
    A second one interrupts as elsewhere, as it must where the camera has stopped answering."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number, frame):
        signal.signal(signal.SIGINT, before)
        video.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _limited(frames, count: int | None):
    import itertools

    return iter(frames) if count is None else itertools.islice(frames, count)


# --------------------------------------------------------------------------------------------
# Both
# --------------------------------------------------------------------------------------------
class _Tally:
    """Counts the pixels that are called unknown."""

    def __init__(self, predictor):
        self._value = predictor.unknown_id if getattr(predictor, "unknown_below", None) is not None else None
        self._unknown = self._pixels = 0

    def add(self, mask) -> None:
        self._pixels += mask.size
        if self._value is not None:
            self._unknown += int((mask == self._value).sum())

    def result(self) -> dict[str, Any] | None:
        return (
            None
            if self._value is None
            else {"id": self._value, "share": round(self._unknown / max(self._pixels, 1), 6)}
        )


def _common(args, predictor, tally: _Tally, number: int, seconds: float) -> dict:
    """What results of images and videos have in common; `fps` counts reading and writing, too."""
    sliding = getattr(predictor, "sliding", None)
    windows = sliding and {
        "crop_size": list(sliding.windows.crop_size),
        "stride": list(sliding.windows.stride),
        "joined": sliding.joined,
    }
    return {
        "save_dir": args.save_dir,
        "seconds": round(seconds, 3),
        "fps": round(number / max(seconds, 1e-9), 2),
        "backend": predictor.backend.describe(),
        "batch_size": args.batch_size,
        "streams": args.streams,
        "windows": windows,
        "unknown": tally.result(),
    }


def _kinds(args, default) -> tuple:
    return tuple(dict.fromkeys(args.outputs or default))


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:d} {what}s"


def _predictor(args, kinds):
    if bool(args.model_dir) == bool(args.config or args.model_path):
        raise ConfigError("give either --model_dir EXPORT, or --config FILE and --model_path WEIGHTS.")
    options = {name: getattr(args, name) for name in _OPTIONS}
    if args.model_dir:
        from ppliteseg_paddle.deploy.predictor import Predictor

        predictor = Predictor(args.model_dir, args.backend or "auto", args.device, args.num_threads, **options)
        if "confidence" in kinds:
            predictor.check_scores("--outputs confidence")
        return predictor
    if not (args.config and args.model_path):
        raise ConfigError("--config and --model_path belong together: the model, and its weights.")
    if args.backend or args.num_threads or args.streams > 1:
        raise ConfigError(
            "--backend, --num_threads and --streams go with --model_dir: export the model first with 'ppliteseg "
            "export'."
        )
    return _eager_predictor(args, kinds, options)


def _eager_predictor(args, kinds, options: dict[str, Any]):
    """The model itself, from its configuration and weights."""
    from ppliteseg_paddle.cli.export import load_trained, val_transforms
    from ppliteseg_paddle.engine.build import label_set_of
    from ppliteseg_paddle.export.eager import eager_predictor

    config, model = load_trained(args)
    if args.format == "cityscapes":
        from ppliteseg_paddle.engine.predict import EvaluationPredictor

        if args.is_slide or args.batch_size > 1:
            raise ConfigError(
                "--is_slide and --batch_size do not go with --config and --format cityscapes, which predicts as `val` "
                "does: set "
                "test_config with --opts, as in test_config.is_slide=True."
            )
        return EvaluationPredictor(model, config)
    needs_scores = args.is_slide or args.unknown_below is not None or "confidence" in kinds
    del options["streams"]
    return eager_predictor(
        model, label_set_of(config), val_transforms(config), "none" if needs_scores else "argmax", **options
    )

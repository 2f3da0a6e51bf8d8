"""Measure exported models: latency, the paper's protocol, or throughput.

latency     one image at a time in steady state, from decoded pixels to a mask of the image's size
paper       an image of 1024x2048 is resized to the network's size, inferred, and its mask resized back, together and
apart
throughput  as many images in flight as pay; finds the best number of streams and images in a batch

Warm-up lasts until times are steady; every call waits for its device. Several folders or backends are timed
round-robin."""

from __future__ import annotations

import sys

from ppliteseg_paddle.cli.common import add_flags, count, positive_int
from ppliteseg_paddle.deploy.runtimes import backend_names
from ppliteseg_paddle.errors import ConfigError

# Height and width of the image where neither a flag nor the graph fixes them: the paper's smaller input.
DEFAULT_SIZE = (512, 1024)
PROTOCOLS = ("latency", "paper", "throughput")


def add_arguments(parser) -> None:
    add_flags(parser, "model_dir", model_dir={"required": True})
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="further folders, measured round-robin with the first"
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help=f"what runs it, of {', '.join(backend_names())}; several are measured round-robin (default: auto, the "
        "first of them that works here, those that use a GPU before the others)",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="latency", help="what is timed (default: %(default)s)")
    parser.add_argument(
        "--image", "--image_path", dest="image_path", metavar="FILE", help="the image (default: a generated one)"
    )
    parser.add_argument(
        "--input_shape",
        type=positive_int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="1 3 H W: the image's size in pixels, with --protocol paper the network's (default: the graph's own where "
        "it is fixed, the image's own with --image, else {} {})".format(*DEFAULT_SIZE),
    )
    parser.add_argument(
        "--warmup", type=count, metavar="N", help="calls before timing starts (default: until times are steady)"
    )
    parser.add_argument(
        "--repeats",
        type=positive_int,
        metavar="N",
        help="timed calls, with --protocol throughput windows of 1 s (default: 3 s of them, at least 20; 6 windows)",
    )
    parser.add_argument(
        "--streams", type=positive_int, metavar="N", help="throughput: so many at once (default: the best number)"
    )
    parser.add_argument(
        "--batch_size", type=positive_int, metavar="N", help="throughput: images in a batch (default: the best number)"
    )
    parser.add_argument("--num_threads", type=positive_int, metavar="N", help="CPU threads (default: all)")
    add_flags(
        parser,
        "device",
        "save_json",
        device={"help": "cpu, gpu or gpu:1 (default: gpu where the runtime finds one, else cpu)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.benchmark.protocols import result_of
    from ppliteseg_paddle.files import check_writable, write_json

    _check(args)
    if args.save_json:
        check_writable(args.save_json)
    candidates = _candidates(args)
    rows, more = _MEASURES[args.protocol](args, candidates)
    result = result_of(rows, **more)
    if args.save_json:
        write_json(args.save_json, result)
    return result


def summary(result: dict) -> str:
    from ppliteseg_paddle.visual.report import benchmark_text

    return benchmark_text(result)


def _check(args) -> None:
    if args.input_shape and args.input_shape[:2] != [1, 3]:
        raise ConfigError(f"--input_shape is {args.input_shape}; it must start with 1 3: one image, three channels.")
    for name in ("streams", "batch_size"):
        if getattr(args, name) and args.protocol != "throughput":
            raise ConfigError(
                f"--{name} is for --protocol throughput; the protocol {args.protocol} takes one image at a time."
            )


def _candidates(args) -> list:
    import os

    from ppliteseg_paddle.benchmark.protocols import Candidate
    from ppliteseg_paddle.deploy.artifact import Artifact

    folders = list(dict.fromkeys([args.model_dir, *args.compare]))
    backends = list(dict.fromkeys(args.backend))
    short = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    labels = short if len(set(short)) == len(short) else folders
    made = []
    for folder, label in zip(folders, labels):
        artifact = Artifact.read(folder)
        for backend in backends:
            name = label if len(backends) == 1 else backend if len(folders) == 1 else f"{label}, {backend}"
            made.append(Candidate(name, artifact, backend, args.device, args.num_threads))
    return made


def _latency(args, candidates):
    from ppliteseg_paddle.benchmark.protocols import latency

    images = {candidate.name: _image(args, candidate.artifact) for candidate in candidates}
    with _bar(args) as bar:
        return latency(candidates, images, args.warmup, args.repeats, lambda done, of: bar.update(done - bar.n)), {}


def _paper(args, candidates):
    from ppliteseg_paddle.benchmark.paper import REPORTED, TABLE2
    from ppliteseg_paddle.benchmark.protocols import PAPER_IMAGE, paper, paper_image
    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    encoded, done = paper_image(read_image(args.image_path) if args.image_path else generated_image(*PAPER_IMAGE))
    for candidate in candidates:
        _check_fixed(args, candidate.artifact)
    size = tuple(args.input_shape[2:]) if args.input_shape else DEFAULT_SIZE
    with _bar(args) as bar:
        rows = paper(candidates, encoded, size, args.warmup, args.repeats, lambda done, of: bar.update(done - bar.n))
    image = {
        "file": args.image_path or "generated",
        "size": [PAPER_IMAGE[1], PAPER_IMAGE[0]],
        "encoding": "PNG",
        "prepared": done,
    }
    return rows, {"image": image, "reported": [REPORTED[key].to_dict() for key in TABLE2]}


def _throughput(args, candidates):
    from ppliteseg_paddle.benchmark.throughput import throughput

    images = {candidate.name: _image(args, candidate.artifact) for candidate in candidates}
    given = {"rounds": args.repeats} if args.repeats else {}
    with _bar(args) as bar:

        def progress(what):
            bar.update()
            bar.set_postfix_str(what)

        return throughput(candidates, images, args.streams, args.batch_size, progress=progress, **given), {}


_MEASURES = {"latency": _latency, "paper": _paper, "throughput": _throughput}


def _bar(args):
    from tqdm import tqdm

    total = args.repeats if args.protocol != "throughput" else None
    return tqdm(total=total, desc="benchmark", unit="round", file=sys.stderr, disable=None)


def _fixed(artifact):
    return None if artifact.input.dynamic else (artifact.input.size_of("H"), artifact.input.size_of("W"))


def _check_fixed(args, artifact) -> None:
    """Raises: ConfigError: if --input_shape asks for a size that the graph does not take."""
    fixed = _fixed(artifact)
    if args.input_shape and fixed not in (None, tuple(args.input_shape[2:])):
        raise ConfigError(
            f"--input_shape asks for {args.input_shape[2]}x{args.input_shape[3]} (height x width), but the graph in "
            f"{artifact.folder} is fixed at {fixed[0]}x{fixed[1]}; export with that --input_shape, or without."
        )


def _image(args, artifact):
    """The image to time, of the size that flags, file or graph say."""
    import cv2

    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    _check_fixed(args, artifact)
    size = tuple(args.input_shape[2:]) if args.input_shape else None
    if args.image_path:
        image = read_image(args.image_path)
        return image if size is None else cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return generated_image(*(size or _fixed(artifact) or DEFAULT_SIZE))

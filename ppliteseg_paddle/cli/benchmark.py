"""Measure an exported model: steady-state latency, one image at a time.

From decoded pixels to a mask of the image's size, in three stages: preprocess, forward, postprocess.
Warm-up goes on until times are steady; every call waits for its device."""
from __future__ import annotations

import sys

from ppliteseg_paddle.cli.common import add_flags, count, positive_int
from ppliteseg_paddle.errors import ConfigError

# Height and width of the image where neither a flag nor the graph fixes them: the paper's smaller input.
DEFAULT_SIZE = (512, 1024)


def add_arguments(parser) -> None:
    add_flags(parser, "model_dir", model_dir={"required": True})
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what runs it: auto, onnxruntime, openvino, paddle "
                        "or paddle-native (default: %(default)s, the fastest that works)")
    add_flags(parser, "image_path", image_path={"help": "the image (default: a generated one)"})
    parser.add_argument("--input_shape", type=positive_int, nargs=4, metavar=("N", "C", "H", "W"),
                        help="1 3 H W: the image's size in pixels (default: the graph's own where it is fixed, "
                        "the image's own with --image_path, else %d %d)" % DEFAULT_SIZE)
    parser.add_argument("--warmup", type=count, metavar="N", help="calls before timing starts (default: until times are steady)")
    parser.add_argument("--repeats", type=positive_int, metavar="N", help="timed calls (default: 3 s of them, at least 20)")
    parser.add_argument("--num_threads", type=positive_int, metavar="N", help="CPU threads (default: all)")
    add_flags(parser, "device", "save_json")


def run(args) -> dict:
    from tqdm import tqdm
    from ppliteseg_paddle.benchmark.protocols import latency
    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.engine.checkpoint import check_writable, write_json
    if args.save_json:
        check_writable(args.save_json)
    predictor = Predictor(args.model_dir, args.backend, args.device, args.num_threads)
    image = _image(args, predictor.artifact)
    with tqdm(total=args.repeats, desc="benchmark", unit="call", file=sys.stderr, disable=None) as bar:
        result = latency(predictor, image, args.warmup, args.repeats, lambda done, of: bar.update(done - bar.n))
    if args.save_json:
        write_json(args.save_json, result)
    return result


def summary(result: dict) -> str:
    backend, machine = result["backend"], result["machine"]
    where = "%s, %s threads" % (machine["processor"], backend.get("num_threads")) if backend["device"] == "cpu" else backend["device"]
    lines = ["%s %s, %s, image %dx%d, %s" % (backend["runtime"], backend["version"], backend["name"], *result["image_size"], where),
             "", "%-12s %9s %9s %9s %9s" % ("ms", "median", "p90", "p99", "min")]
    for stage, values in result["stages"].items():
        lines.append("%-12s %9.2f %9.2f %9.2f %9.2f" % (stage, values["median_ms"], values["p90_ms"], values["p99_ms"], values["min_ms"]))
    lines += ["", "%.1f images a second; %d calls after %d to warm up; half of the calls within %.1f %% of each other" % (
        result["fps"], result["repeats"], result["warmup"], 100 * result["stages"]["total"]["spread"])]
    if not result["steady"]:
        lines.append("times were not steady yet when timing started: the machine is busy, or --warmup is small")
    return "\n".join(lines)


def _image(args, artifact):
    """The image to time, of the size that flags, file or graph say."""
    import cv2
    from ppliteseg_paddle.deploy.preprocess import generated_image, read_image
    fixed = None if artifact.input.dynamic else (artifact.input.size_of("H"), artifact.input.size_of("W"))
    size = None
    if args.input_shape:
        size = tuple(args.input_shape[2:])
        if args.input_shape[:2] != [1, 3]:
            raise ConfigError("--input_shape is %s; it must start with 1 3: one image, three channels." % args.input_shape)
        if fixed not in (None, size):
            raise ConfigError("--input_shape asks for %dx%d (height x width), but the graph in %s is fixed at %dx%d; export with "
                              "that --input_shape, or without." % (*size, args.model_dir, *fixed))
    if args.image_path:
        image = read_image(args.image_path)
        return image if size is None else cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return generated_image(*(size or fixed or DEFAULT_SIZE))

"""All steps once, on generated street scenes: data, the shipped weights as they are, fine-tuning of these, evaluation,
export, prediction, latency.

Each step is a command of its own, shown before it runs, so that you can repeat it with other settings.
Writes to --save_dir: before.png (the scenes as the shipped weights see them), grid.png (after training), metrics.json,
export/, benchmark.json, and what led to them."""

from __future__ import annotations

import os
import time
from typing import Any

from ppliteseg_paddle.cli.common import add_flags, positive_int
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.outputs import Outputs, check_result, write_result
from ppliteseg_paddle.weights.zoo import DEFAULT

GRID_ROWS = 5
CONFIG = "ppliteseg_t_streetscenes"


def add_arguments(parser) -> None:
    add_flags(
        parser,
        "config",
        "model_path",
        "save_dir",
        "iters",
        "seed",
        "num_workers",
        "overwrite",
        config={"default": CONFIG, "help": "configuration to train with: a YAML file or a name (default: %(default)s)"},
        model_path={
            "default": DEFAULT,
            "help": "weights to start from (default: %(default)s, which is part of the package)",
        },
        save_dir={"default": "demo_output"},
        seed={"default": 0},
    )
    parser.add_argument(
        "--train", type=positive_int, default=480, metavar="N", help="training scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--val", type=positive_int, default=40, metavar="N", help="validation scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=positive_int,
        nargs=2,
        default=[320, 240],
        metavar=("W", "H"),
        help="size of the scenes in pixels (default: 320 240)",
    )


def run(args) -> dict:
    from ppliteseg_paddle import Predictor
    from ppliteseg_paddle.engine.save_dir import remove_results, results_in

    out = args.save_dir
    data, trained, export = (os.path.join(out, name) for name in ("data", "train", "export"))
    config = os.path.join(trained, "config.yml")
    metrics_path, grid, before = (os.path.join(out, name) for name in ("metrics.json", "grid.png", "before.png"))
    outputs = Outputs(out, args.overwrite)
    check_result(metrics_path, args.overwrite)
    outputs.check([grid, before])
    earlier = results_in(trained)
    if earlier and not args.overwrite:
        raise ConfigError(
            f"{trained} holds a run already ({', '.join(earlier)}), so it is not replaced; give another --save_dir, or "
            "add --overwrite to train anew."
        )
    steps = _Steps()
    steps.run("data", "synth", out=data, train=args.train, val=args.val, size=args.size, seed=args.seed)
    data_flags = [f"{split}_dataset.dataset_root={data}" for split in ("train", "val")]
    at_first = steps.run("val", timed_as="before", config=args.config, model_path=args.model_path, opts=data_flags)
    title = f"{args.model_path}, which has never seen a generated scene: mIoU {100 * at_first['mIoU']:.1f} %"
    _write_grid(outputs, before, _trained(args.config, args.model_path, data_flags), data, title)
    print(f"written: {before}: the scenes before training", flush=True)
    if earlier:
        remove_results(trained)
    training = steps.run(
        "train",
        config=args.config,
        model_path=args.model_path,
        save_dir=trained,
        seed=args.seed,
        log_iters=50,
        num_workers=args.num_workers,
        iters=args.iters,
        opts=data_flags,
    )
    weights = training["model_path"]
    metrics = steps.run("val", config=config, model_path=weights)
    steps.run("export", config=config, model_path=weights, save_dir=export)
    predictions = os.path.join(out, "predictions")
    steps.run("predict", model_dir=export, image_path=os.path.join(data, "val.txt"), save_dir=predictions)
    shape, report = [1, 3, *args.size[::-1]], os.path.join(out, "benchmark.json")
    latency = steps.run("benchmark", model_dir=export, input_shape=shape, save_json=report)
    _write_metrics(metrics_path, metrics, steps.seconds, training, latency)
    subtitle = (
        f"{args.model_path} after {training['iterations']} iterations on {args.train} generated scenes: mIoU "
        f"{100 * metrics['mIoU']:.1f} %, {latency['fps']:.0f} frames/s on this machine"
    )
    _write_grid(outputs, grid, Predictor(export), data, subtitle)
    return {
        "save_dir": out,
        "mIoU": metrics["mIoU"],
        "mIoU_before": at_first["mIoU"],
        "fps": latency["fps"],
        "latency_ms": latency["latency_ms"],
        "seconds": round(sum(steps.seconds.values()), 1),
        "config": config,
        "model_path": weights,
    }


def summary(result: dict) -> str:
    out = result["save_dir"]
    made = [
        ("grid.png", "look at this first: image, ground truth, prediction"),
        ("before.png", f"the same before training, mIoU {(100 * result['mIoU_before']):.1f} %"),
        ("metrics.json", f"mIoU {(100 * result['mIoU']):.1f} %, IoU of each class, seconds of each step"),
        ("benchmark.json", f"latency: {result['latency_ms']:.1f} ms an image, {result['fps']:.0f} frames/s"),
        ("export/", "the trained model for Paddle Inference, with all that Predictor needs"),
        ("predictions/", "masks and overlays of the validation scenes"),
        ("train/", "checkpoints, train.json and the resolved config.yml"),
    ]
    lines = [f"made in {result['seconds']:.0f} s:"]
    lines += [f"  {os.path.join(out, name)!s:34} {text}" for name, text in made]
    lines += [
        "",
        "what to try next:",
        f"  ppliteseg predict --model_dir {os.path.join(out, 'export')} --image_path YOUR_PHOTOS --save_dir "
        "output/predictions",
        "  ppliteseg data prepare folder --images DIR --masks DIR --out data/mine   # your own data",
        "  ppliteseg --help                                                         # all commands",
    ]
    return "\n".join(lines)


class _Steps:
    """Runs commands of this program in this process, and remembers how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, command: str, *action: str, timed_as: str | None = None, **flags) -> dict:
        """Run a command with flags; a list gives a flag several values, None leaves it to its default."""
        from ppliteseg_paddle.cli.main import parse

        argv = list(action)
        for name, value in flags.items():
            if value is not None:
                argv += ["--" + name, *(map(str, value) if isinstance(value, list) else [str(value)])]
        print(f"\n$ ppliteseg {command} {' '.join(argv)}", flush=True)
        args = parse(command, argv)
        start = time.perf_counter()
        result = args._module.run(args)
        self.seconds[timed_as or command] = round(time.perf_counter() - start, 2)
        if hasattr(args._module, "summary"):
            print(args._module.summary(result).split("\n\nnext:")[0], flush=True)
        return result


def _write_metrics(path: str, metrics: dict, seconds: dict, training: dict, latency: dict) -> None:
    write_result(
        path,
        {
            **metrics,
            "timings": {
                "seconds": seconds,
                "seconds_total": round(sum(seconds.values()), 2),
                "training_iterations": training["iterations"],
                "latency_ms": latency["latency_ms"],
                "fps": latency["fps"],
            },
        },
    )


def _trained(config: str, weights: str, opts: list[str]) -> Any:
    """A predictor of weights, without an export."""
    from ppliteseg_paddle.export.trained import load_trained, trained_predictor

    return trained_predictor(*load_trained(config, weights, opts), with_scores=False)


def _write_grid(outputs: Outputs, path: str, predictor: Any, data: str, subtitle: str) -> None:
    """The validation scenes that show most classes (in their ground truth), with a model's masks."""
    from ppliteseg_paddle.reading.label_sets import label_set
    from ppliteseg_paddle.reading.lists import read_list
    from ppliteseg_paddle.visual.png import write_image
    from ppliteseg_paddle.visual.samples import richest_scenes_grid

    pairs = [(image, label) for image, label, _ in read_list(os.path.join(data, "val.txt")) if label]
    title = "Street scenes, segmented by PP-LiteSeg"
    picture = richest_scenes_grid(pairs, predictor.predict, label_set("camvid"), GRID_ROWS, title, subtitle)
    write_image(path, picture, outputs.write)

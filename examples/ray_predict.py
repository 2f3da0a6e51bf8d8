#!/usr/bin/env python
"""Segment very many images on Ray, with a process for each of --num_workers, on one machine or all of a cluster.

    pip install '.[deploy]' 'ray[data]<2.64'
    python examples/ray_predict.py --model_dir output/export --image_path photos/ --save_dir masks --num_workers 4

Writes what `ppliteseg predict --outputs mask` writes: SAVE_DIR/mask/NAME.png. A mask appears when it is whole, and one
that is there is kept: after an interruption the same command continues. When a worker dies, another one takes over.
On a cluster all machines see the model, the images and SAVE_DIR at the same paths. RAY_ADDRESS names a running cluster;
without it Ray starts on this machine."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from ppliteseg_paddle import Predictor, progress
from ppliteseg_paddle.cli.common import add_flags, positive_int
from ppliteseg_paddle.deploy.results import image_paths, write_images
from ppliteseg_paddle.deploy.sources import Item, find_images
from ppliteseg_paddle.errors import ConfigError, DataError, DependencyError, PPLiteSegError, one_line
from ppliteseg_paddle.files import check_writable, remove_unfinished, write_bytes
from ppliteseg_paddle.visual.overlays import Overlays

IMAGES_A_TASK = 256  # what a worker takes at once, and what is begun anew after it has died
RETRIES = 3  # of a task whose worker has died: more deaths in a row are its images' doing


class Worker:
    """An actor: a process with its own `Predictor`."""

    def __init__(self, model_dir: str, save_dir: str, backend: str, cpus: float) -> None:
        self.predictor = Predictor(model_dir, backend, num_threads=max(1, int(cpus)))
        self.style, self.save_dir = Overlays(self.predictor.label_set), save_dir

    def __call__(self, task: dict[str, Any]) -> dict[str, list[Any]]:
        """Segment the images that have no mask yet.

        Args: task: "path" and "name" of each image, arrays of texts.
        Returns: the counts "written" and "kept", and what is wrong with those that cannot be read, "unreadable".
        Raises: DataError: if a mask cannot be written.
        """
        items = [Item(str(path), str(name)) for path, name in zip(task["path"], task["name"])]
        places = {item: image_paths(self.save_dir, item, ("mask",)) for item in items}
        missing = [item for item in items if not os.path.exists(places[item]["mask"])]
        unreadable = []
        stream = self.predictor.stream([item.path for item in missing], keep_going=True)
        for item, found in zip(missing, stream):
            if found.error is None:
                write_images(places[item], found, self.style, write, item)
            else:
                unreadable.append(one_line(found.error))
        written, kept = len(missing) - len(unreadable), len(items) - len(missing)
        return {"written": [written], "kept": [kept], "unreadable": ["\n".join(unreadable)]}


def write(path: str, content: bytes) -> None:
    write_bytes(path, content, DataError)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see: {self.prog} --help)")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add_flags(
        parser,
        *("model_dir", "image_path", "save_dir", "num_workers"),
        model_dir={"required": True},
        image_path={"required": True},
        save_dir={"default": "output/predictions"},
        num_workers={
            "type": positive_int,
            "default": 2,
            "help": "processes on all machines together, which share Ray's CPUs (default: %(default)s)",
        },
    )
    return parser.parse_args(argv)


def tasks(items: list[Item], num_workers: int) -> list[list[Item]]:
    """The images in pieces, no fewer than there are workers."""
    size = max(1, min(IMAGES_A_TASK, len(items) // num_workers))
    return [items[start : start + size] for start in range(0, len(items), size)]


def predict(args: argparse.Namespace) -> tuple[dict[str, int], list[str]]:
    """Returns: the counts "written" and "kept"; what is wrong with each image that cannot be read.

    Raises: PPLiteSegError: for what can be seen before Ray starts. ray.exceptions.RayError: for what fails in a worker.
    """
    items = find_images(args.image_path, args.save_dir, ("mask",))
    folders = sorted({os.path.dirname(os.path.join(args.save_dir, "mask", item.name)) for item in items})
    check_writable(os.path.join(folders[0], "ray_predict"))
    predictor = Predictor(args.model_dir)
    # One runtime for all workers, so that a mask does not depend on which of them makes it.
    model = (os.path.abspath(predictor.artifact.folder), predictor.backend.name)
    counts, unreadable = {"written": 0, "kept": 0}, []
    try:
        with progress.bar(total=len(items), desc="predict", unit="image") as bar:
            for found in results(args, tasks(items, args.num_workers), *model):
                wrong = found.pop("unreadable").splitlines()
                unreadable += wrong
                counts = {name: count + found[name] for name, count in counts.items()}
                bar.update(sum(found.values()) + len(wrong))
    finally:
        for folder in folders:
            remove_unfinished(folder)  # of workers that have died
    return counts, unreadable


def results(
    args: argparse.Namespace, pieces: list[list[Item]], model_dir: str, backend: str
) -> Iterator[dict[str, Any]]:
    """What `Worker` returns for each piece, as they are finished."""
    import pyarrow
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*ray_remote_args")  # retries have no other place up to Ray 2.63
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # a plain one, for a machine without memory or an address without Ray
        raise ConfigError(f"Ray does not start: {str(error).splitlines()[0]}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    share = ray.cluster_resources()["CPU"] / args.num_workers
    cpus = int(share) if share >= 1 else share
    tables = [
        pyarrow.table({"path": [os.path.abspath(item.path) for item in piece], "name": [item.name for item in piece]})
        for piece in pieces
    ]
    yield from (
        ray.data.from_arrow(tables)
        .map_batches(
            Worker,
            fn_constructor_args=(model_dir, os.path.abspath(args.save_dir), backend, cpus),
            compute=ray.data.ActorPoolStrategy(size=args.num_workers),
            num_cpus=cpus,
            max_task_retries=RETRIES,
        )
        .iter_rows()
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0; 2 for bad input, or where an image could not be read; 130 after Ctrl-C."""
    try:
        args, start = arguments(argv), time.perf_counter()
        try:
            importlib.import_module("ray.data")  # takes pyarrow, which does not suit every NumPy
            from ray.exceptions import RayError
        except ImportError as error:
            raise DependencyError(
                f"Ray cannot be imported ({error}). Install it with: pip install 'ray[data]<2.64'"
            ) from None
        try:
            counts, unreadable = predict(args)
        except RayError as error:
            raise DataError(
                f"a worker failed: {str(error).strip().splitlines()[-1]} The same command continues."
            ) from error
    except PPLiteSegError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    for wrong in unreadable:
        print(f"error: {wrong}", file=sys.stderr)
    seconds = time.perf_counter() - start
    print(
        f"{counts['written']} images segmented, {counts['written'] / seconds:.1f} a second with the start, "
        f"{counts['kept']} kept, {len(unreadable)} unreadable; masks are in {os.path.join(args.save_dir, 'mask')}"
    )
    return 2 if unreadable else 0


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    sys.exit(main())

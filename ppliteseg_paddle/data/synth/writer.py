"""Writes generated scenes as a data set in PaddleSeg's list form, with worker processes, and resumes or reuses one."""
from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ppliteseg_paddle.data.catalog import LABEL_SETS
from ppliteseg_paddle.data.synth.scene import LARGEST, SMALLEST, render_scene
from ppliteseg_paddle.errors import ConfigError, DataError

GENERATOR_VERSION = 1  # raise it whenever the same seed gives other pictures
JPEG_QUALITY = 95
SPLITS = ("train", "val")

_DONE, _BEGUN = "synth.json", "synth.partial.json"
_OURS = re.compile(r"(train|val)_\d{5,}\.(jpg|png)(\.tmp)?")

Job = Tuple[str, str, int, int, Tuple[int, int]]  # folder, split, index, seed, size


def generate(out_dir: str, train: int = 600, val: int = 60, size: Tuple[int, int] = (480, 360), seed: int = 0,
             num_workers: Optional[int] = None, progress: bool = True, overwrite: bool = False) -> Dict[str, object]:
    """Write `train` + `val` scenes to `out_dir`.

    The same arguments give the same bytes, whatever the number of workers is. Lists are written last, so
    that a folder with lists is a whole data set; an interrupted run goes on where it stopped; a finished
    set of the same parameters is reused.

    Args:
        size: (width, height), pixels.
        num_workers: processes; None takes one per core, at most eight; 0 and 1 draw in this process.
        progress: show a bar on stderr.
        overwrite: replace a generated set of other parameters. Files of other origin are never removed.

    Returns: out_dir, train, val, size, seed, num_classes, reused, drawn (scenes), seconds.

    Raises:
        ConfigError: a number is out of range.
        DataError: `out_dir` holds something else, or cannot be written to.
    """
    _check(train, val, size, seed, num_workers)
    start = time.perf_counter()
    out = Path(out_dir)
    parameters = {"generator_version": GENERATOR_VERSION, "train": int(train), "val": int(val),
                  "size": [int(size[0]), int(size[1])], "seed": int(seed)}
    try:
        finished = _prepare(out, parameters, overwrite)
        jobs = [(str(out), split, index, int(seed), (int(size[0]), int(size[1])))
                for split, count in zip(SPLITS, (train, val)) for index in range(count)]
        missing = [job for job in jobs if not all(path.is_file() for path in _paths(job))]
        if not finished or missing:
            _forget_lists(out)
            _write(out / _BEGUN, _json(parameters))
            _draw_all(missing, num_workers, progress)
            _write_lists(out, jobs, parameters)
    except OSError as error:
        raise DataError("cannot write the data set to '{}': {}; choose another --out".format(
            out_dir, error.strerror or error)) from error
    return {"out_dir": str(out), "train": int(train), "val": int(val), "size": parameters["size"], "seed": int(seed),
            "num_classes": LABEL_SETS["camvid"].num_classes, "reused": not missing, "drawn": len(missing),
            "seconds": round(time.perf_counter() - start, 2)}


def _check(train: int, val: int, size: Tuple[int, int], seed: int, num_workers: Optional[int]) -> None:
    for name, value in (("train", train), ("val", val), ("seed", seed), ("num_workers", num_workers or 0)):
        if value < 0:
            raise ConfigError("--{} is {}; it cannot be negative".format(name, value))
    if train + val == 0:
        raise ConfigError("--train and --val are both 0; ask for at least one scene")
    width, height = size
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise ConfigError("--size is {} {}; width and height must be {} to {} pixels".format(
            width, height, SMALLEST, LARGEST))


def _prepare(out: Path, parameters: dict, overwrite: bool) -> bool:
    """Make the folder ready. Returns whether it already holds this very set, finished."""
    if out.exists() and not out.is_dir():
        raise DataError("'{}' is a file, not a folder; choose another --out".format(out))
    found = _read(out / _DONE)
    if found == parameters:
        return True
    if found is None and _read(out / _BEGUN) == parameters:
        return False
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            other = found or _read(out / _BEGUN)
            what = " (it holds a generated set of other parameters: {})".format(_differences(other, parameters)) if other else ""
            raise DataError("'{}' is not empty{}; choose another --out or pass --overwrite".format(out, what))
        _forget_lists(out)
        for folder in ("images", "labels"):
            for path in sorted((out / folder).glob("*")):
                if _OURS.fullmatch(path.name):
                    path.unlink()
    for folder in ("images", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    return False


def _differences(found: dict, wanted: dict) -> str:
    return ", ".join("{} {}".format(key, found.get(key)) for key in wanted if found.get(key) != wanted[key])


def _forget_lists(out: Path) -> None:
    for name in (_DONE, _BEGUN, "train.txt", "val.txt", "classes.txt"):
        if (out / name).exists():
            (out / name).unlink()
    for folder in ("images", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)


def _write_lists(out: Path, jobs: List[Job], parameters: dict) -> None:
    _write(out / "classes.txt", "\n".join(LABEL_SETS["camvid"].classes) + "\n")
    for split in SPLITS:
        lines = ["{} {}\n".format(*(path.relative_to(out).as_posix() for path in _paths(job))) for job in jobs if job[1] == split]
        _write(out / (split + ".txt"), "".join(lines))
    os.replace(out / _BEGUN, out / _DONE)


def _draw_all(jobs: List[Job], num_workers: Optional[int], progress: bool) -> None:
    workers = min(os.cpu_count() or 1, 8) if num_workers is None else num_workers
    workers = min(workers, len(jobs))
    with tqdm(total=len(jobs), desc="drawing scenes", unit="scene", disable=not progress or not jobs, file=sys.stderr) as bar:
        for _ in map(_draw, jobs) if workers <= 1 else _in_processes(jobs, workers):
            bar.update()


def _in_processes(jobs: List[Job], workers: int) -> Iterator[None]:
    # Forked workers start at once and share the patterns; where there is no fork, they are spawned.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin" else "spawn"
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), initializer=_start_worker)
    try:
        yield from pool.map(_draw, jobs, chunksize=max(1, min(16, len(jobs) // (workers * 4))))
    except BrokenProcessPool as error:
        raise DataError("a worker process died (out of memory?); run the same command again to go on, "
                        "with a smaller --num_workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    # One thread a worker: OpenCV's own threads would fight over the cores, and do not survive a fork.
    cv2.setNumThreads(1)


def _draw(job: Job) -> None:
    """Draw one scene and write both files; the label last."""
    _, split, index, seed, size = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), index)))
    image, label = render_scene(rng, size)
    image_path, label_path = _paths(job)
    _write(image_path, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    _write(label_path, cv2.imencode(".png", label, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes())


def _paths(job: Job) -> Tuple[Path, Path]:
    folder, split, index = Path(job[0]), job[1], job[2]
    name = "{}_{:05d}".format(split, index)
    return folder / "images" / (name + ".jpg"), folder / "labels" / (name + ".png")


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _read(path: Path) -> Optional[dict]:
    """The JSON object in a file, or None if there is no such file or nothing readable in it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, content) -> None:
    """All of the file or nothing of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    os.replace(temporary, path)

"""Writes generated scenes as a data set in PaddleSeg's list form, with worker processes, and resumes or reuses one."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.files import SOURCE_ROOT
from ppliteseg_paddle.progress import bar
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.synth.scene import LARGEST, SMALLEST
from ppliteseg_paddle.synth.worker import SPLITS, TROUBLE, Job, draw_job, job_paths, write_file

GENERATOR_VERSION = 1  # raise it whenever the same seed gives other images

_DONE, _BEGUN = "synth.json", "synth.partial.json"
_OURS = re.compile(r"(train|val)_\d{5,}\.(jpg|png)(\.tmp)?")


def generate(
    out_dir: str,
    train: int = 600,
    val: int = 60,
    size: tuple[int, int] = (480, 360),
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> dict[str, object]:
    """Write `train` + `val` scenes to `out_dir`.

    The same arguments give the same bytes, whatever the number of workers is. Lists are written last, so
    that a folder with lists is a complete data set; an interrupted run resumes where it stopped; a finished
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
    parameters = {
        "generator_version": GENERATOR_VERSION,
        "train": int(train),
        "val": int(val),
        "size": [int(size[0]), int(size[1])],
        "seed": int(seed),
    }
    try:
        finished = _prepare(out, parameters, overwrite)
        jobs = [
            (str(out), split, index, int(seed), (int(size[0]), int(size[1])))
            for split, count in zip(SPLITS, (train, val))
            for index in range(count)
        ]
        missing = [job for job in jobs if not all(path.is_file() for path in job_paths(job))]
        if not finished or missing:
            _forget_lists(out)
            write_file(out / _BEGUN, _json(parameters))
            _draw_all(missing, num_workers, progress)
            _write_lists(out, jobs, parameters)
    except OSError as error:
        raise DataError(
            f"cannot write the data set to '{out_dir}': {error.strerror or error}; choose another --out"
        ) from error
    return {
        "out_dir": str(out),
        "train": int(train),
        "val": int(val),
        "size": parameters["size"],
        "seed": int(seed),
        "num_classes": LABEL_SETS["camvid"].num_classes,
        "reused": not missing,
        "drawn": len(missing),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _check(train: int, val: int, size: tuple[int, int], seed: int, num_workers: int | None) -> None:
    for name, value in (("train", train), ("val", val), ("seed", seed), ("num_workers", num_workers or 0)):
        if value < 0:
            raise ConfigError(f"--{name} is {value}; it cannot be negative")
    if train + val == 0:
        raise ConfigError("--train and --val are both 0; ask for at least one scene")
    width, height = size
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise ConfigError(f"--size is {width} {height}; width and height must be {SMALLEST} to {LARGEST} pixels")


def _prepare(out: Path, parameters: dict, overwrite: bool) -> bool:
    """Make the folder ready. Returns whether it already holds this very set, finished."""
    if out.exists() and not out.is_dir():
        raise DataError(f"'{out}' is a file, not a folder; choose another --out")
    found = _read(out / _DONE)
    if found == parameters:
        return True
    if found is None and _read(out / _BEGUN) == parameters:
        return False
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            other = found or _read(out / _BEGUN)
            what = (
                f" (it holds a generated set of other parameters: {_differences(other, parameters)})" if other else ""
            )
            raise DataError(f"'{out}' is not empty{what}; choose another --out or pass --overwrite")
        _forget_lists(out)
        for folder in ("images", "labels"):
            for path in sorted((out / folder).glob("*")):
                if _OURS.fullmatch(path.name):
                    path.unlink()
    for folder in ("images", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    return False


def _differences(found: dict, wanted: dict) -> str:
    return ", ".join(f"{key} {found.get(key)}" for key in wanted if found.get(key) != wanted[key])


def _forget_lists(out: Path) -> None:
    for name in (_DONE, _BEGUN, "train.txt", "val.txt", "classes.txt"):
        if (out / name).exists():
            (out / name).unlink()
    for folder in ("images", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)


def _write_lists(out: Path, jobs: list[Job], parameters: dict) -> None:
    write_file(out / "classes.txt", "\n".join(LABEL_SETS["camvid"].classes) + "\n")
    for split in SPLITS:
        lines = [
            "{} {}\n".format(*(path.relative_to(out).as_posix() for path in job_paths(job)))
            for job in jobs
            if job[1] == split
        ]
        write_file(out / (split + ".txt"), "".join(lines))
    os.replace(out / _BEGUN, out / _DONE)


def _draw_all(jobs: list[Job], num_workers: int | None, progress: bool) -> None:
    workers = min(os.cpu_count() or 1, 8) if num_workers is None else num_workers
    workers = min(workers, len(jobs))
    with bar(total=len(jobs), shown=progress and bool(jobs), desc="drawing scenes", unit="scene") as shown:
        for _ in map(draw_job, jobs) if workers <= 1 else _in_processes(jobs, workers):
            shown.update()


def _in_processes(jobs: list[Job], workers: int) -> Iterator[None]:
    """Draw in processes of their own, one share each; yields once for each scene.

    Plain processes rather than `multiprocessing`: a fork would inherit OpenCV's thread pool without its
    threads and wait for them for ever, and a spawn would run the caller's script again.
    """
    news: queue.SimpleQueue = queue.SimpleQueue()
    crew = [_start(jobs[first::workers], news) for first in range(workers)]
    working = workers
    try:
        while working:
            item = news.get()
            if isinstance(item, str):
                if item.startswith(TROUBLE):
                    raise OSError(item[len(TROUBLE) :].strip())
                yield
                continue
            working -= 1
            if item:
                raise DataError(
                    f"a worker process ended with status {item} (out of memory?); run the same command again to "
                    "resume, with a smaller --num_workers"
                )
    finally:
        for process in crew:
            process.terminate()
            process.wait()


def _start(share: list[Job], news: queue.SimpleQueue) -> subprocess.Popen:
    """A worker, and a thread that passes its lines on, and its exit status when it has ended."""
    known = os.environ.get("PYTHONPATH")
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", "from ppliteseg_paddle.synth.worker import main; main()", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=SOURCE_ROOT + os.pathsep + known if known else SOURCE_ROOT),
        encoding="utf-8",
    )

    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes, as asked for
    to_worker, from_worker = process.stdin, process.stdout

    def follow() -> None:
        try:
            with to_worker as stdin:
                stdin.write(json.dumps(share))
        except BrokenPipeError:
            pass  # it has ended already; its exit status says more
        for line in from_worker:
            news.put(line)
        news.put(process.wait())

    threading.Thread(target=follow, daemon=True).start()
    return process


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _read(path: Path) -> dict | None:
    """The JSON object in a file, or None if there is no such file or nothing readable in it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None

"""Draws and writes single scenes; also the program that `writer` starts several times."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.synth.scene import render_scene

SPLITS = ("train", "val")
JPEG_QUALITY = 95
TROUBLE = "!"  # begins the line in which a worker reports that it cannot write

Job = tuple[str, str, int, int, tuple[int, int]]  # folder, split, index, seed, size


def draw_job(job: Job) -> None:
    """Draw one scene and write both files, the label last."""
    _, split, index, seed, size = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS.index(split), index)))
    image, label = render_scene(rng, (size[0], size[1]))
    image_path, label_path = job_paths(job)
    write_file(image_path, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    write_file(label_path, cv2.imencode(".png", label, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes())


def job_paths(job: Job) -> tuple[Path, Path]:
    """Where a scene's image and label go."""
    folder, split, index = Path(job[0]), job[1], job[2]
    name = f"{split}_{index:05d}"
    return folder / "images" / (name + ".jpg"), folder / "labels" / (name + ".png")


def write_file(path: Path, content) -> None:
    """All of the file or nothing of it."""
    temporary = path.with_name(path.name + ".tmp")
    with signals.held():
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)


def main() -> None:
    """Read jobs as JSON from stdin, draw them, write a line to stdout after each. The argument is the parent's process
    id."""
    signals.begin_worker(int(sys.argv[1]))
    cv2.setNumThreads(1)  # several workers share the cores
    try:
        for job in json.load(sys.stdin):
            draw_job(job)
            print(".", flush=True)
    except OSError as error:
        print(TROUBLE, error.strerror or error, flush=True)

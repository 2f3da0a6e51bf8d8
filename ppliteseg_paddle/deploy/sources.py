"""What is to be segmented: an image, a folder, a list, a video, a camera."""

from __future__ import annotations

import os
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.extensions import IMAGE_EXTENSIONS
from ppliteseg_paddle.reading.lists import NotTextError, Pair, read_list

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")


class Item(NamedTuple):
    """An image to segment: its path, what its results are called, and its label's path where a list names one."""

    path: str
    name: str
    label: str | None = None


def is_video(path: str) -> bool:
    """Whether a path is a video's, by its extension."""
    return path.lower().endswith(VIDEO_EXTENSIONS) and not os.path.isdir(path)


def find_images(path: str) -> list[Item]:
    """The images that `path` stands for: an image, a folder (searched with its subfolders), or a list file.

    Raises: DataError: if there is no such path, or no image in it.
    """
    if os.path.isdir(path):
        return _in_folder(path)
    if not os.path.exists(path):
        raise DataError(f"image_path {path} does not exist; give an image, a folder, a list file, or a video.")
    if path.lower().endswith(IMAGE_EXTENSIONS):
        return _named([path], [None], os.path.dirname(path))
    pairs = _read_list(path)
    images = [pair.image for pair in pairs]
    # A missing image must not lengthen all names.
    present = [image for image in images if os.path.exists(image)] or images
    root = os.path.commonpath([os.path.dirname(os.path.abspath(image)) for image in present])
    return _named(images, [pair.label for pair in pairs], root)


def _in_folder(path: str) -> list[Item]:
    files = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if not name.startswith(".")
    )
    found = [file for file in files if file.lower().endswith(IMAGE_EXTENSIONS)]
    if found:
        return _named(found, [None] * len(found), path)
    video = next((file for file in files if is_video(file)), None)
    if video:
        raise DataError(
            f"the folder {path} holds no image, but videos; give one at a time, as in --image_path {video}."
        )
    raise DataError(f"the folder {path} holds no image (looked for {', '.join(IMAGE_EXTENSIONS)}).")


def _read_list(path: str) -> list[Pair]:
    try:
        return read_list(path, needs_label=False)
    except NotTextError:
        raise DataError(
            f"{path} is neither an image ({', '.join(IMAGE_EXTENSIONS)}), nor a video ({', '.join(VIDEO_EXTENSIONS)}), "
            "nor a text file that lists images."
        ) from None


def _named(paths: list[str], labels: list[str | None], root: str) -> list[Item]:
    """Name each image by its place below `root`, without its extension unless two names would then be one."""
    relative = [os.path.relpath(path, root or ".") for path in paths]
    count: dict[str, int] = {}
    for name in set(relative):
        stem = os.path.splitext(name)[0]
        count[stem] = count.get(stem, 0) + 1
    names = [os.path.splitext(name)[0] if count[os.path.splitext(name)[0]] == 1 else name for name in relative]
    return [Item(*fields) for fields in zip(paths, names, labels)]

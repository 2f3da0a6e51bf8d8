"""What is to be segmented: an image, a folder, a list, a video, a camera."""

from __future__ import annotations

import os
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".jp2")
VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")


class Item(NamedTuple):
    """An image to segment: its path, what its results are called, and its label's path where a list names one."""

    path: str
    name: str
    label: str | None = None


def is_video(path: str) -> bool:
    """Whether a path is a video's, by its ending."""
    return path.lower().endswith(VIDEO_ENDINGS) and not os.path.isdir(path)


def find_images(path: str) -> list[Item]:
    """The images that `path` stands for: an image, a folder (searched with its subfolders), or a list file.

    Raises: DataError: if there is no such path, or no image in it.
    """
    if os.path.isdir(path):
        return _in_folder(path)
    if not os.path.exists(path):
        raise DataError(f"image_path {path} does not exist; give an image, a folder, a list file, or a video.")
    if path.lower().endswith(IMAGE_ENDINGS):
        return _named([path], [None], os.path.dirname(path))
    images, labels = _read_list(path)
    there = [image for image in images if os.path.exists(image)] or images  # a missing one must not lengthen all names
    return _named(images, labels, os.path.commonpath([os.path.dirname(os.path.abspath(image)) for image in there]))


def _in_folder(path: str) -> list[Item]:
    files = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if not name.startswith(".")
    )
    found = [file for file in files if file.lower().endswith(IMAGE_ENDINGS)]
    if found:
        return _named(found, [None] * len(found), path)
    video = next((file for file in files if is_video(file)), None)
    if video:
        raise DataError(
            f"the folder {path} holds no image, but videos; give one at a time, as in --image_path {video}."
        )
    raise DataError(f"the folder {path} holds no image (looked for {', '.join(IMAGE_ENDINGS)}).")


def _read_list(path: str) -> tuple[list[str], list[str | None]]:
    """Image and label paths of a list in PaddleSeg's form: `image` or `image label` a line, relative to the list."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is neither an image ({', '.join(IMAGE_ENDINGS)}), nor a video ({', '.join(VIDEO_ENDINGS)}), nor a "
            "text file that lists images."
        ) from None
    except OSError as error:
        raise DataError(f"list {path} cannot be read: {error.strerror or error}.") from None
    if not lines:
        raise DataError(f"list {path} is empty: it needs one image a line.")
    folder = os.path.dirname(path)
    images, labels = [], []
    for line in lines:
        # A name with blanks is one image; else a second field is its label.
        fields = [line] if os.path.exists(os.path.join(folder, line)) else line.split()
        images.append(os.path.join(folder, fields[0]))
        labels.append(os.path.join(folder, fields[1]) if len(fields) > 1 else None)
    return images, labels


def _named(paths: list[str], labels: list[str | None], root: str) -> list[Item]:
    """Name each image by its place below `root`, without its ending unless two names would then be one."""
    relative = [os.path.relpath(path, root or ".") for path in paths]
    count: dict[str, int] = {}
    for name in set(relative):
        stem = os.path.splitext(name)[0]
        count[stem] = count.get(stem, 0) + 1
    names = [os.path.splitext(name)[0] if count[os.path.splitext(name)[0]] == 1 else name for name in relative]
    return [Item(*fields) for fields in zip(paths, names, labels)]

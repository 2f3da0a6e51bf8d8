"""What is to be segmented: an image, a folder, a list, a video, a camera."""

from __future__ import annotations

import contextlib
import os
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.outputs import MANIFEST, Outputs
from ppliteseg_paddle.reading.extensions import IMAGE_EXTENSIONS
from ppliteseg_paddle.reading.lists import NotTextError, Pair, read_list

RESULT_EXTENSIONS = (".png", ".jpg", ".tif", ".json", ".geojson")  # of what `results` writes of an image
VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")


class Item(NamedTuple):
    """An image to segment: its path, what its results are called, and its label's path where a list names one."""

    path: str
    name: str
    label: str | None = None

    @property
    def file_name(self) -> str:
        """`name` with the image's extension, folders separated by /."""
        base = os.path.basename(self.path)
        whole = self.name if os.path.basename(self.name) == base else self.name + os.path.splitext(base)[1]
        return whole.replace(os.sep, "/")


def is_address(path: str) -> bool:
    """Whether a text is an address rather than a path."""
    return "://" in path


@contextlib.contextmanager
def local(path: str) -> Iterator[str]:
    """`path`, or for an http(s) address the path of what it leads to, downloaded meanwhile under its own name.

    Raises: DownloadError: if it cannot be had.
    """
    if not is_address(path):
        yield path
        return
    from ppliteseg_paddle.weights.download import fetch

    name = os.path.basename(urllib.parse.unquote(urllib.parse.urlparse(path).path)) or "image"
    # An address need not tell what it leads to, as a camera's; what decodes an image goes by its content.
    name = name if name.lower().endswith((*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS)) else name + ".jpg"
    with tempfile.TemporaryDirectory() as folder:
        yield fetch(path, folder, name)


def is_video(path: str) -> bool:
    """Whether a path is a video's, by its extension."""
    return path.lower().endswith(VIDEO_EXTENSIONS) and not os.path.isdir(path)


def find_images(path: str, save_dir: str | None = None, kinds: Sequence[str] = ()) -> list[Item]:
    """The images that `path` stands for: an image, a folder (searched with its subfolders), or a list file.

    What a folder holds of results is not among them: `save_dir` where it lies below, its folders `kinds` where it is
    the folder itself, and whatever an earlier run is known to have written.

    Raises: DataError: if there is no such path, or no image in it; if an image lies where results are written.
    """
    outputs = [os.path.realpath(os.path.join(save_dir, kind)) for kind in kinds] if save_dir is not None else []
    if os.path.isdir(path):
        below = save_dir is not None and _is_below(os.path.realpath(save_dir), [os.path.realpath(path)])
        items = _in_folder(path, [os.path.realpath(save_dir)] if save_dir is not None and below else outputs)
    else:
        items = _listed(path)
    inside = next((item.path for item in items if _is_below(os.path.realpath(item.path), outputs)), None)
    if inside is not None:
        raise DataError(f"image {inside} lies in {os.path.dirname(inside)}, where results go; give another --save_dir.")
    return items


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path.startswith(os.path.join(folder, "")) for folder in folders)


def _listed(path: str) -> list[Item]:
    """The image at `path`, or those that a list names, each once."""
    if not os.path.exists(path):
        raise DataError(f"image_path {path} does not exist; give an image, a folder, a list file, or a video.")
    if path.lower().endswith(IMAGE_EXTENSIONS):
        return _named([path], [None], os.path.dirname(path))
    pairs = list({os.path.abspath(pair.image): pair for pair in _read_list(path)}.values())
    images = [pair.image for pair in pairs]
    # A missing image must not lengthen all names.
    present = [image for image in images if os.path.exists(image)] or images
    root = os.path.commonpath([os.path.dirname(os.path.abspath(image)) for image in present])
    return _named(images, [pair.label for pair in pairs], root)


def _in_folder(path: str, outputs: Sequence[str]) -> list[Item]:
    """Args: outputs: real paths of folders that are not searched."""
    files: list[str] = []
    results: set[str] = set()
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(folder, name)) not in outputs]
        if MANIFEST in names:
            results |= Outputs(folder).files()
        files += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    files = sorted(file for file in files if os.path.abspath(file) not in results)
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
    """Name each image by its place below `root`, without its extension unless two results would then be one file, or
    one a file and a folder."""
    full = [os.path.relpath(path, root or ".") for path in paths]
    folders = {parent for name in full for parent in _parents(name)}
    names = [os.path.splitext(name)[0] for name in full]
    while True:
        count = Counter(names)
        clashing = [
            index
            for index, name in enumerate(names)
            if name != full[index] and (count[name] > 1 or _is_folder(name, folders))
        ]
        if not clashing:
            break
        for index in clashing:
            names[index] = full[index]
    clash = next((path for path, name in zip(paths, names) if count[name] > 1 or _is_folder(name, folders)), None)
    if clash is not None:
        raise DataError(f"the result of {clash} would take the place of another image's; rename one of them.")
    return [Item(*fields) for fields in zip(paths, names, labels)]


def _is_folder(name: str, folders: set[str]) -> bool:
    """Whether a result of that name would have to be a folder, too."""
    return any(name + extension in folders for extension in RESULT_EXTENSIONS)


def _parents(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name

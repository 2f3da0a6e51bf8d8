"""Read files of named arrays. What a file is, its content tells, not its name."""

from __future__ import annotations

import glob
import os
import re
import tempfile
import zipfile
import zlib
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DependencyError, WeightsError
from ppliteseg_paddle.weights import archives, download, zoo
from ppliteseg_paddle.weights.pickles import PICKLE_ERRORS, ArrayUnpickler
from ppliteseg_paddle.weights.rules import StateDict
from ppliteseg_paddle.weights.torch_files import LEGACY_MAGIC, is_torch_zip, read_torch_legacy, read_torch_zip

# Of the weight files in an archive.
SUFFIXES = (".pdparams", ".safetensors", ".pth", ".pt", ".ckpt")
# Keys under which checkpoints hold the state dict among other things; of two, the one that its owner evaluates.
_NESTED = ("state_dict", "model", "ema_net", "net")


def read_state_dict(path: str) -> StateDict:
    """Names and arrays of a weight file; see `read_weight_file`."""
    return read_weight_file(path)[0]


def read_weight_file(path: str) -> tuple[StateDict, str]:
    """Names and arrays of a weight file, and its format.

    Formats: Paddle's pickle (.pdparams), safetensors, PyTorch's zip and older pickles, and tar or zip archives that
    hold one such file. Code in a file is never executed.

    Args: path: a path; or an http(s) address (`download.fetch`), or a name of `zoo.yml`, which is downloaded first.
    Raises: WeightsError: if it is missing, unreadable, no file of arrays, or asks to run code; DownloadError.
    """
    row = zoo.find(path)
    if row is not None:
        path = zoo.path_of(row)
    elif download.is_url(path):
        path = download.fetch(path)
    if os.path.isdir(path):
        found = weights_in(path)
        if not found:
            raise WeightsError(f"{path} is a folder without a weight file ({', '.join(SUFFIXES)}); give such a file.")
        raise WeightsError(f"{path} is a folder; give a file in it, such as {found[0]}.")
    if not os.path.isfile(path):
        raise WeightsError(f"weight file {path} does not exist.")
    if os.path.getsize(path) == 0:
        raise WeightsError(f"weight file {path} is empty.")
    kind = sniff(path)
    if kind == "archive":
        return _read_archive(path)
    try:
        content, kind = _READERS[kind](path)
    except DependencyError:
        raise
    except WeightsError as error:
        raise WeightsError(f"weight file {path}: {error}") from None
    except PICKLE_ERRORS + (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise WeightsError(
            f"weight file {path} cannot be read as {_SUFFIX_OF[kind]} ({error}); it may be cut short or of another "
            "kind."
        ) from error
    return _arrays_of(content, path), kind


def weights_in(folder: str) -> list[str]:
    """Weight files in a folder and the folders in it: those of a run's best model first, then of its last iteration."""

    def rank(path: str) -> tuple[bool, int, str]:
        number = re.search(r"iter_(\d+)$", os.path.dirname(path))
        return not os.path.dirname(path).endswith("best_model"), -int(number[1]) if number else 0, path

    inside = [path for depth in ("*", "*/*") for path in glob.glob(os.path.join(glob.escape(folder), depth))]
    return sorted((path for path in inside if path.endswith(SUFFIXES) and os.path.isfile(path)), key=rank)


def check_pickle(path: str) -> None:
    """Check that a pickle (.pdparams, .pdopt) holds arrays, numbers, texts and containers only, before Paddle reads it:
    Paddle's own reader executes whatever code a file names.

    Raises: WeightsError: if it asks for anything else, or cannot be read.
    """
    try:
        _read_pickle(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except PICKLE_ERRORS + (OSError,) as error:
        raise WeightsError(f"{path} cannot be read ({error}); it may be cut short or of another kind.") from error


def sniff(path: str) -> str:
    """What a file is by its first bytes: "archive", "zip" (PyTorch's), "safetensors", "web page", or else "pickle".

    Raises: WeightsError: for a damaged zip file.
    """
    with open(path, "rb") as file:
        head = file.read(16)
    if zipfile.is_zipfile(path):
        try:
            return "zip" if is_torch_zip(path) else "archive"
        except (
            zipfile.BadZipFile,
            ValueError,
            OSError,
            NotImplementedError,
        ) as error:  # its end is there, what the end tells of is not
            raise WeightsError(f"weight file {path} is a damaged zip file ({error}): get it anew.") from error
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
        return "safetensors"
    if head.lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml"):
        return "web page"
    return "archive" if head[:1] != b"\x80" and archives.is_archive(path) else "pickle"


def _read_pickle(path: str) -> tuple[Any, str]:
    with open(path, "rb") as file:
        first = ArrayUnpickler(file).load()
        if isinstance(first, int) and first == LEGACY_MAGIC:
            return read_torch_legacy(file), "PyTorch (before 1.6)"
        return first, "Paddle"


def _read_safetensors(path: str) -> tuple[Any, str]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise DependencyError(f"reading {path} needs the package safetensors: pip install safetensors") from None
    try:
        return load_file(path), "safetensors"
    except SafetensorError as error:
        raise ValueError(error) from error


def _refuse_web_page(path: str) -> tuple[Any, str]:
    raise WeightsError("it is a web page, not weights: its download did not reach the file itself. Get it anew.")


_READERS: dict[str, Callable[[str], tuple[Any, str]]] = {
    "pickle": _read_pickle,
    "zip": lambda path: (read_torch_zip(path), "PyTorch"),
    "safetensors": _read_safetensors,
    "web page": _refuse_web_page,
}
_SUFFIX_OF = {"pickle": ".pdparams", "zip": "PyTorch checkpoint", "safetensors": ".safetensors"}


def _read_archive(path: str) -> tuple[StateDict, str]:
    with tempfile.TemporaryDirectory(prefix="ppliteseg-") as folder:
        names = [
            name
            for name in archives.unpack(path, folder, archives.allowed_bytes(path))
            if name.endswith(SUFFIXES) and not os.path.basename(name).startswith(".")
        ]
        chosen = [name for name in names if os.path.basename(name) == "model.pdparams"] or names
        if len(chosen) != 1:
            raise WeightsError(
                "archive {} holds {}; unpack it and name the one to use.".format(
                    path, f"several weight files ({', '.join(chosen)})" if chosen else "no weight file"
                )
            )
        if sniff(os.path.join(folder, chosen[0])) == "archive":
            raise WeightsError(f"archive {path} holds another archive, {chosen[0]}; unpack it and name the file in it.")
        try:
            return read_weight_file(os.path.join(folder, chosen[0]))
        except WeightsError as error:
            raise WeightsError(str(error).replace(os.path.join(folder, ""), f"{path}: ")) from error


def _arrays_of(content: Any, path: str) -> StateDict:
    if not isinstance(content, dict):
        raise WeightsError(f"weight file {path} holds a {type(content).__name__}, not names and arrays.")
    for key in _NESTED:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    found = {str(name): _array(value) for name, value in content.items()}
    arrays = {name: array for name, array in found.items() if array is not None}
    if not arrays:
        raise WeightsError(f"weight file {path} holds no arrays.")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise WeightsError(f"weight file {path}: {name} has the type {array.dtype}, which is no number.")
    return arrays


def _array(value: Any) -> NDArray[Any] | None:
    """An array itself, and of the pair (name, array) that paddle.save writes outside state dicts, the array."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return value if isinstance(value, np.ndarray) else None

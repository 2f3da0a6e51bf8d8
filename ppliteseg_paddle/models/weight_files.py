"""Read and write files of named arrays, without running anything that a file asks to be run.

`.pdparams` files are pickles, and a pickle may call any function. Ours are read by an unpickler that
admits numpy arrays and plain containers and refuses everything else by name.
"""
from __future__ import annotations

import os
import pickle
from typing import Dict

import numpy as np

from ppliteseg_paddle.errors import DependencyError, WeightsError

StateDict = Dict[str, np.ndarray]

# What paddle.save writes into a state dict beside arrays: structured name -> parameter name.
_NAME_TABLE = "StructuredToParameterName@@"

_ALLOWED = {("collections", "OrderedDict"), ("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")}
_ALLOWED |= {(package + module, name) for package in ("numpy.core.", "numpy._core.")
             for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays in plain containers; any other class or function is refused."""

    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise WeightsError("the file asks for '%s.%s', which arrays do not need; it was not read, as it may run "
                           "commands. Use a file from a source that you trust." % (module, name))


def read_state_dict(path: str) -> StateDict:
    """Names and arrays of a weight file (`.pdparams` or `.safetensors`).

    Raises: WeightsError: if it is missing, unreadable, no file of arrays, or asks to run code.
    """
    if not os.path.isfile(path):
        hint = " It is a folder; name the file in it, such as %s." % os.path.join(path, "model.pdparams") \
            if os.path.isdir(path) else ""
        raise WeightsError("weight file %s does not exist.%s" % (path, hint))
    if os.path.getsize(path) == 0:
        raise WeightsError("weight file %s is empty." % path)
    if path.endswith(".safetensors"):
        content = _read_safetensors(path)
    else:
        content = _read_pickle(path)
    if not isinstance(content, dict):
        raise WeightsError("weight file %s holds a %s, not names and arrays." % (path, type(content).__name__))
    arrays = {str(name): value for name, value in content.items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise WeightsError("weight file %s holds no arrays." % path)
    return arrays


def _read_pickle(path: str):
    try:
        with open(path, "rb") as file:
            return ArrayUnpickler(file).load()
    except WeightsError as error:
        raise WeightsError("weight file %s: %s" % (path, error)) from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, ImportError, IndexError, KeyError,
            MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise WeightsError("weight file %s cannot be read as .pdparams (%s); it may be cut short or of another kind."
                           % (path, error)) from error


def _read_safetensors(path: str) -> StateDict:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise DependencyError("reading %s needs the package safetensors: pip install safetensors" % path) from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError("weight file %s cannot be read as .safetensors (%s)." % (path, error)) from error

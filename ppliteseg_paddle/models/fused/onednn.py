"""The C interface of the oneDNN that Paddle's CPU builds carry: functions whose status is checked, handles with an
owner.

Paddle uses that library for inference only. In training, its CPU convolutions copy each image's windows into a matrix
(im2col) and multiply, image by image, and batch norm and ReLU walk through memory with one thread. `block` builds on
this module what does all three at once.

The library is one file of the installed Paddle, `libs/libdnnl.so.3` (oneDNN 3.2 in Paddle 2.6, 3.6 in 3.2 and 3.3). Its
C interface is stable within version 3.

Source: oneDNN's C interface, https://uxlfoundation.github.io/oneDNN/ (`dnnl.h`, `dnnl_types.h`).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_size_t, c_void_p
from functools import lru_cache
from typing import Any

VERSION = 3  # of the C interface
AVX2 = 0x7  # what a processor must have: without it, most of the library is its slow reference code
AVX512_BF16 = 0xE7  # products of bfloat16 with sums in float32; AMX has them, too
CPU, IN_ORDER = 1, 1  # of `dnnl_types.h`, as all numbers of this package


class _Version(ctypes.Structure):
    _fields_ = [("major", c_int), ("minor", c_int), ("patch", c_int), ("hash", ctypes.c_char_p)]


@lru_cache(maxsize=1)
def library() -> Library | None:
    """The oneDNN of the installed Paddle; None if it has none of version 3, the processor lacks AVX2, or
    PPLITESEG_ONEDNN=0 turns it off."""
    if os.environ.get("PPLITESEG_ONEDNN") == "0":
        return None
    import paddle

    path = os.path.join(os.path.dirname(paddle.__file__), "libs", f"libdnnl.so.{VERSION:d}")
    try:
        return Library(ctypes.CDLL(path))  # the one that Paddle has loaded: same file, same threads
    except (OSError, AttributeError, RuntimeError):  # no file, or another interface
        return None


class Library:
    """Engine, stream, and the functions of the interface with their status checked.

    Attributes: `bf16`: whether the processor multiplies bfloat16; `live`: addresses of the handles that some `Handles`
        owns and has not destroyed.
    Raises: RuntimeError: for another version, or a processor without AVX2.
    """

    def __init__(self, functions: ctypes.CDLL):
        self.functions = functions
        functions.dnnl_version.restype = ctypes.POINTER(_Version)
        version = functions.dnnl_version().contents
        self.version = f"{version.major:d}.{version.minor:d}.{version.patch:d}"
        instructions = functions.dnnl_get_effective_cpu_isa()
        self.bf16 = instructions & AVX512_BF16 == AVX512_BF16
        if version.major != VERSION or instructions & AVX2 != AVX2:
            raise RuntimeError(f"oneDNN is of another version than {VERSION:d}, or the processor has no AVX2.")
        for name, result, arguments in (
            ("dnnl_primitive_desc_query_md", c_void_p, [c_void_p, c_int, c_int]),
            ("dnnl_memory_desc_get_size", c_size_t, [c_void_p]),
            ("dnnl_memory_desc_equal", c_int, [c_void_p, c_void_p]),
            ("dnnl_memory_set_data_handle", c_int, [c_void_p, c_void_p]),
            ("dnnl_primitive_execute", c_int, [c_void_p, c_void_p, c_int, c_void_p]),
        ):
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
        self.live: set[int] = set()
        self.engine = self.create("dnnl_engine_create", c_int(CPU), c_size_t(0))
        self.stream = self.create("dnnl_stream_create", self.engine, c_int(IN_ORDER))

    def call(self, name: str, *arguments: Any) -> None:
        """Raises: RuntimeError: if the library refuses."""
        status = getattr(self.functions, name)(*arguments)
        if status:
            raise RuntimeError(f"oneDNN: {name} ended with status {status:d}.")

    def create(self, name: str, *arguments: Any) -> c_void_p:
        """What a function writes into its first argument. The caller owns it; see `Handles`."""
        handle = c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return handle


class Handles:
    """Owns what it creates in the library, until `destroy`."""

    def __init__(self, lib: Library):
        self.lib = lib
        self._owned: list[tuple[str, c_void_p]] = []

    def create(self, kind: str, function: str, *arguments: Any) -> c_void_p:
        """Create by `function` a handle that `dnnl_<kind>_destroy` destroys.

        Raises: RuntimeError: if the library refuses.
        """
        handle = self.lib.create(function, *arguments)
        self._owned.append((kind, handle))
        self.lib.live.add(handle.value or 0)
        return handle

    def destroy(self) -> None:
        """Destroy all, the latest first. No lock: the garbage collector may call this at any moment."""
        while self._owned:
            kind, handle = self._owned.pop()
            self.lib.live.discard(handle.value or 0)
            self.lib.call(f"dnnl_{kind}_destroy", handle)

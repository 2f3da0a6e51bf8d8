"""The few calls of the CUDA driver that TensorRT needs around it: memory, copies, a stream.

They come from the driver's own library, which is present wherever a GPU works: no CUDA toolkit and no further package
is needed.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import ConfigError, DependencyError

_LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # of CUdevice_attribute
_NON_BLOCKING = 1


def load_driver() -> Any:
    """The driver's library.

    Raises: DependencyError: if this machine has none.
    """
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        raise DependencyError(
            f"TensorRT needs an NVIDIA GPU and its driver, which this machine does not have ({_LIBRARY} is missing); "
            "take another backend, or another machine."
        ) from None


class Gpu:
    """One GPU. Its context is the one that CUDA's runtime, and with it TensorRT, uses, too.

    Args: number: which one, from 0; driver: the library, for tests.
    Attributes: `name`, `capability` ("8.6").
    Raises: DependencyError: if there is no GPU or the driver fails. ConfigError: if there is no GPU of that number.
    """

    def __init__(self, number: int = 0, driver: Any = None):
        self._driver = driver if driver is not None else load_driver()
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if number >= count.value:
            if count.value == 0:
                raise DependencyError("TensorRT needs an NVIDIA GPU, and the driver finds none; take another backend.")
            raise ConfigError(f"device 'gpu:{number:d}' does not exist: {count.value:d} GPU(s) found.")
        self.number, device = number, ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode("utf-8", "replace")
        self.capability = ".".join(
            str(self._attribute(which, device)) for which in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
        )
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.use()

    def use(self) -> None:
        """Make it the GPU of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A new stream: work in it is done in order. It lives as long as the process."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        return stream.value or 0

    def wait_for(self, stream: int) -> None:
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _attribute(self, which: int, device: Any) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise DependencyError(
                f"the NVIDIA driver refuses {name}: {(text.value or b'unknown').decode('utf-8', 'replace')} (error "
                f"{code:d}); see what 'nvidia-smi' says."
            )


class Buffer:
    """Memory on the GPU and as much pinned memory beside it. It grows and never shrinks; freed with the object."""

    def __init__(self, gpu: Gpu):
        self._gpu, self._bytes, self.address, self._pinned = gpu, 0, 0, 0
        self._free: Callable[[], object] = lambda: None

    def reserve(self, count: int) -> None:
        """Room for so many bytes."""
        if count <= self._bytes:
            return
        self._free()
        self._bytes = self.address = self._pinned = 0
        device, pinned = ctypes.c_uint64(), ctypes.c_void_p()
        self._gpu._call("cuMemAlloc_v2", ctypes.byref(device), ctypes.c_size_t(count))
        self._gpu._call("cuMemAllocHost_v2", ctypes.byref(pinned), ctypes.c_size_t(count))
        self._bytes, self.address, self._pinned = count, device.value, pinned.value or 0
        free = weakref.finalize(self, _free, self._gpu, device, pinned)
        free.atexit = False  # the driver frees what is left, and may be gone already by then
        self._free = free

    def copy_in(self, array: NDArray[Any], stream: int) -> None:
        """From an array to the GPU."""
        self.reserve(array.nbytes)
        np.copyto(self._view(array.shape, array.dtype), array)
        self._gpu._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(self.address),
            ctypes.c_void_p(self._pinned),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(stream),
        )

    def copy_out(self, shape: tuple[int, ...], dtype: Any, stream: int) -> NDArray[Any]:
        """From the GPU to a new array; waits for the stream."""
        view = self._view(shape, dtype)
        self._gpu._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(self._pinned),
            ctypes.c_uint64(self.address),
            ctypes.c_size_t(view.nbytes),
            ctypes.c_void_p(stream),
        )
        self._gpu.wait_for(stream)
        return view.copy()

    def _view(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """The pinned memory as an array."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw: Any = (ctypes.c_uint8 * count).from_address(self._pinned)
        view: NDArray[Any] = np.frombuffer(raw, dtype).reshape(shape)
        return view


def _free(gpu: Gpu, device: Any, pinned: Any) -> None:
    gpu.use()
    gpu._call("cuMemFree_v2", device)
    gpu._call("cuMemFreeHost", pinned)

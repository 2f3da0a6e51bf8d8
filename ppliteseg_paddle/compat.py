"""Fixes of what fails in the installed PaddleSeg and Paddle. Each states its reason, where it applies and when it can
go. `register()` applies those of training, `registry.run_script` those of inference, too. PaddleSeg's losses are fixed
where they are built, see `compat_losses`; what the environment needs before Paddle's import is in `environment`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import paddle


def apply_paddleseg_fixes() -> None:
    """Replace in paddleseg what fails with the installed Paddle, and nothing else. `register()` calls it."""
    from paddleseg.utils import logger, metrics

    written = getattr(getattr(logger, "log", None), "__code__", None)  # develop's logger is another one
    if written is not None and "latin1" in written.co_consts:
        logger.log = log
    if metrics.calculate_area is not calculate_area and not _counts(metrics.calculate_area):
        metrics.calculate_area = calculate_area


def apply_inference_fixes() -> None:
    """Let scripts that call `Config.enable_memory_optim()`, as PaddleSeg's `deploy/python/infer.py`, run `.json` files.

    Reason: it plans memory for Paddle 2's executor. Of a `.json` graph Paddle 3 then says «Not find predictor_id 0 and
    pass_name memory_optimize_pass», and infer.py ends with status 0 and without masks. The new executor, for which this
    format was made, saves as much by itself. There, since Paddle 3.3.0, oneDNN cannot run resize operators (Paddle
    issue 77340) and is left with the convolutions. Can go: once PaddleSeg's scripts ask for that executor (those of
    2.9.1 and of its develop branch do not). `registry.run_script` calls it.
    """
    import paddle
    from paddle import inference

    plain = inference.Config.enable_memory_optim
    if hasattr(plain, "__wrapped__"):
        return
    resizes = (int(paddle.version.major), int(paddle.version.minor)) < (3, 3)

    @functools.wraps(plain)
    def enable_memory_optim(config: Any, *arguments: Any) -> None:
        if not config.prog_file().endswith(".json"):
            plain(config, *arguments)
            return
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        if not resizes:
            config.delete_pass("onednn_placement_pass")

    inference.Config.enable_memory_optim = enable_memory_optim


@contextlib.contextmanager
def quick_tracing() -> Iterator[None]:
    """Let `to_static` and `jit.save` take the time that the graph needs, for the time of a block.

    Reason: Paddle converts a method again for each object that has it (its cache is keyed by bound methods, which are
    made anew whenever one is asked for), goes through all functions of NumPy and others at each call, and 3.2 through
    all operators so far at each layer, to note a name that only its automatic parallelism reads. HRNet-W18 took 20 s
    of processor time and takes 3 with the same operators. Can go: once Paddle traces PaddleSeg's OCRNet in 5 s.
    """
    import paddle
    from paddle.jit.dy2static import convert_call_func, program_translator
    from paddle.nn.layer import layers

    cache, is_unsupported = program_translator._FUNCTION_CACHE, convert_call_func.is_unsupported
    convert = cache.convert_with_cache
    converted: dict[Any, Any] = {}
    unsupported: dict[Any, bool] = {}

    def convert_once(function: Any) -> Any:
        method = getattr(function, "__func__", None)
        if method is None:
            return convert(function)
        if method not in converted:
            converted[method] = cache._convert(method)
        return converted[method]

    def is_unsupported_once(function: Any) -> bool:
        key = type(function) if isinstance(function, paddle.nn.Layer) else getattr(function, "__func__", function)
        try:
            if key not in unsupported:
                unsupported[key] = is_unsupported(function)
            return unsupported[key]
        except TypeError:  # not hashable
            return bool(is_unsupported(function))

    with _TRACING, contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(cache, "convert_with_cache", convert_once))
        stack.enter_context(_replaced(convert_call_func, "is_unsupported", is_unsupported_once))
        if hasattr(layers, "name_struct"):
            stack.enter_context(_replaced(layers, "name_struct", lambda prefix=None: contextlib.nullcontext()))
        yield


_TRACING = threading.RLock()


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def log(level: int = 2, message: str = "") -> None:
    """Print a line as PaddleSeg's logger does, with the message as it is.

    Reason: PaddleSeg's prints the bytes of UTF-8 as Latin-1, so that names of classes and files in other scripts cannot
    be read. Can go: once PaddleSeg prints text (2.9.1 does not).
    Source: PaddleSeg `utils/logger.py`.
    """
    import paddle
    from paddleseg.utils import logger

    if logger.log_level >= level and paddle.distributed.ParallelEnv().local_rank == 0:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{logger.levels[level]}]\t{message}"
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # a name ends no run


def fixed_transform(transform: type) -> type:
    """The class to build in place of a transform of PaddleSeg; `transform` itself if nothing is wrong with it.

    Reason: `ResizeByShort` with `max_size` keeps the smaller size of an elongated image for all later images, so that
    what an evaluation measures depends on the order of its images. Can go: once PaddleSeg's keeps its arguments (2.9.1
    and its develop branch do not).
    """
    from paddleseg.transforms import ResizeByShort

    if transform is not ResizeByShort:
        return transform
    if transform not in _transforms:

        def call(self: Any, data: dict[str, Any]) -> dict[str, Any]:
            result: dict[str, Any] = ResizeByShort.__call__(copy.copy(self), data)
            return result

        _transforms[transform] = type(transform.__name__, (transform,), {"__call__": call, "__module__": __name__})
    return _transforms[transform]


_transforms: dict[type, type] = {}


def _counts(function: Callable[..., Any]) -> bool:
    """Whether a `calculate_area` runs with the installed Paddle: tried on two pixels."""
    import paddle

    ids = paddle.to_tensor([[[0, 1]]], dtype="int64", place=paddle.CPUPlace())
    try:
        function(ids, ids, 2)
    except Exception:  # each Paddle raises another class
        return False
    return True


def calculate_area(
    pred: paddle.Tensor, label: paddle.Tensor, num_classes: int, ignore_index: int = 255
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Pixels in which prediction and label agree, pixels predicted, and pixels labelled, per class.

    Reason: PaddleSeg 2.8.0 concatenates one sum per class; since Paddle 2.5 a sum has no dimension and
    `concat` refuses it. Counting with `bincount` also reads each map three times, not three times
    per class. Can go: with support for PaddleSeg 2.8 (2.9.1's own runs, and is left alone).

    Args:
        pred: class ids, integer; label: class ids with `ignore_index` where nothing is known.
    Shape: both (N, H, W) or (N, 1, H, W); returns three int64 tensors of (num_classes,).
    Raises: ValueError: if the shapes differ.
    Source: PaddleSeg `utils/metrics.py::calculate_area`, whose results it equals.
    """
    import paddle

    pred = paddle.squeeze(pred, axis=1) if pred.ndim == 4 else pred
    label = paddle.squeeze(label, axis=1) if label.ndim == 4 else label
    if list(pred.shape) != list(label.shape):
        raise ValueError(f"pred and label must have one shape, but are {list(pred.shape)} and {list(label.shape)}.")
    pred, label = pred.astype("int64").flatten(), label.astype("int64").flatten()
    other = paddle.full_like(label, num_classes)  # the bin for all that does not count

    def count(ids: paddle.Tensor, where: paddle.Tensor) -> paddle.Tensor:
        where = paddle.logical_and(where, paddle.logical_and(ids >= 0, ids < num_classes))
        return paddle.bincount(paddle.where(where, ids, other), minlength=num_classes + 1)[:num_classes].astype("int64")

    known = label != ignore_index
    return (
        count(pred, paddle.logical_and(known, pred == label)),
        count(pred, known),
        count(label, paddle.ones_like(known)),
    )

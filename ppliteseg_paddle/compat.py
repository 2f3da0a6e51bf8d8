"""Everything that the installed PaddleSeg and Paddle need from us to work together, and our registration.

Each mend states its reason, where it applies, and when it can go. Importing this module costs
nothing; paddle and paddleseg are touched only inside functions.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import sys

# Read now: importing paddle sets the variable to 1.
_OMP_NUM_THREADS_OF_THE_USER = None if "paddle" in sys.modules else os.environ.get("OMP_NUM_THREADS")

_compute_threads = 1  # see `use_all_cores`

# PaddleSeg registry -> our components, "module:class". The names are ours alone: PaddleSeg's `PPLiteSeg`,
# `STDC1` and `STDC2` stay what they are.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "BACKBONES": ("ppliteseg_paddle.models.stdc:STDCNet813", "ppliteseg_paddle.models.stdc:STDCNet1446"),
    "MODELS": (
        "ppliteseg_paddle.models.pp_liteseg:PPLiteSegNet",
        "ppliteseg_paddle.models.sppm:SPPM",
        "ppliteseg_paddle.models.conv_neck:ConvNeck",
        "ppliteseg_paddle.models.fld:FLDHead",
    ),
    "LOSSES": ("ppliteseg_paddle.losses.cross_entropy:CELoss", "ppliteseg_paddle.losses.cross_entropy:OhemCELoss"),
    "TRANSFORMS": ("ppliteseg_paddle.data.transforms:FusedAugment",),
    "DATASETS": ("ppliteseg_paddle.data.dataset:CamVid", "ppliteseg_paddle.data.dataset:StreetScenes"),
}


# --------------------------------------------------------------------------------------------
# Registration and import order
# --------------------------------------------------------------------------------------------
def register() -> None:
    """Add our components to PaddleSeg's registry and mend what the installed versions need.

    Runs by itself once paddleseg is imported; calling it again changes nothing.

    Raises: RuntimeError: if another package holds one of our names (nothing is overwritten then).
    Source: PaddleSeg `cvlibs/manager.py`.
    """
    from paddleseg.cvlibs import manager

    for registry, targets in COMPONENTS.items():
        held = getattr(manager, registry).components_dict
        for target in targets:
            module, name = target.split(":")
            component = getattr(importlib.import_module(module), name)
            if name not in held:
                getattr(manager, registry).add_component(component)
            elif held[name] is not component:
                raise RuntimeError(
                    f"PaddleSeg's registry {registry} already holds another '{name}' ({held[name]!r}); "
                    "ppliteseg_paddle cannot "
                    "register its own."
                )
    apply_paddleseg_fixes()


class _AfterImport(importlib.abc.Loader):
    """Loader of paddleseg that calls `register` once the package stands."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # The package keeps its own loader: pickling, resources and reloads see nothing of us.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        register()


class _ImportHook(importlib.abc.MetaPathFinder):
    """Watches for `import paddle` and `import paddleseg`; finds nothing else."""

    def find_spec(self, name, path=None, target=None):
        if name == "paddle":
            load_image_codecs_before_paddle()
        elif name == "paddleseg":
            spec = self._spec_of_others(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _AfterImport(spec.loader)
            return spec
        return None

    def _spec_of_others(self, name, path, target):
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


def install_import_hooks() -> None:
    """Called once by `import ppliteseg_paddle`. Registers at once where paddleseg is there already."""
    choose_fast_matrix_products()  # also where paddle is there already: MKL reads the variable at its first product
    paddleseg = sys.modules.get("paddleseg")
    if paddleseg is not None and not getattr(paddleseg.__spec__, "_initializing", False):
        register()
    if not any(isinstance(finder, _ImportHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportHook())


def load_image_codecs_before_paddle() -> None:
    """Load OpenCV (or Pillow) ahead of Paddle 2.6.

    Reason: libpaddle 2.6.2 exports zlib symbols of its own. If it is loaded first, OpenCV's and
    Pillow's PNG readers bind to them and fail, or the process dies in `inflateReset2`.
    Can go: with support for Paddle 2.6.
    """
    version = paddle_version()
    if version is not None and version < (3,) and "cv2" not in sys.modules and "PIL.Image" not in sys.modules:
        for module in ("cv2", "PIL.Image"):
            if importlib.util.find_spec(module.split(".")[0]) is not None:
                importlib.import_module(module)
                return


def choose_fast_matrix_products() -> None:
    """Let the MKL in Paddle's CPU builds use AVX2 on AMD processors.

    Reason: that MKL (of 2019) knows the processors of its maker only and takes its slowest form on others: matrix
    products, and with them convolutions in training, run at 40 % of the speed that its AVX2 form has on an AMD EPYC.
    The variable names the AVX2 form; later versions of MKL ignore it. One that the user has set is respected.
    Can go: when Paddle's CPU builds carry another library.
    """
    if "MKL_DEBUG_CPU_TYPE" not in os.environ and _is_amd_with_avx2():
        os.environ["MKL_DEBUG_CPU_TYPE"] = "5"


def _is_amd_with_avx2(cpuinfo: str = "/proc/cpuinfo") -> bool:
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            described = file.read(8192)
    except OSError:  # no Linux: Paddle's MKL is told nothing
        return False
    return "AuthenticAMD" in described and {"avx2", "fma"} <= set(described.split())


def paddle_version() -> tuple[int, ...] | None:
    """(3, 2, 2) of the installed Paddle without importing it; None if there is none."""
    from importlib import metadata

    for name in ("paddlepaddle", "paddlepaddle-gpu"):
        try:
            text = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdigit())
    return None


def use_all_cores() -> int:
    """Let Paddle compute with all cores that this process may use, or its share of them beside other ranks. Returns
    their number.

    Reason: Paddle's CPU builds start with one thread unless OMP_NUM_THREADS is set before the import; most of
    the machine idles while it trains. A variable that the user has set is respected, but a 1 under
    `paddle.distributed.launch` is not taken for the user's: the launcher imports paddle, too, and so hands it to every
    rank.
    Can go: when Paddle chooses the number of threads by itself.
    """
    import paddle

    global _compute_threads
    wanted, ranks_here = _OMP_NUM_THREADS_OF_THE_USER, int(os.environ.get("PADDLE_LOCAL_SIZE") or 1)
    if wanted and wanted.isdigit() and int(wanted) > (1 if ranks_here > 1 else 0):
        threads = int(wanted)
    elif hasattr(os, "sched_getaffinity"):
        threads = max(1, len(os.sched_getaffinity(0)) // ranks_here)
    else:
        threads = max(1, (os.cpu_count() or 1) // ranks_here)
    paddle.base.core.set_num_threads(threads)
    _compute_threads = threads
    return threads


def compute_threads() -> int:
    """Threads that this process computes with, in Paddle and beside it: 1 until `use_all_cores` was called."""
    return _compute_threads


# --------------------------------------------------------------------------------------------
# Mends of paddleseg 2.8.0
# --------------------------------------------------------------------------------------------
def apply_paddleseg_fixes() -> None:
    """Replace in paddleseg what cannot run on the installed Paddle, and nothing else."""
    import paddle
    from paddleseg.utils import metrics

    if metrics.calculate_area is not calculate_area and paddle.sum(paddle.ones([1], dtype="int64")).ndim == 0:
        metrics.calculate_area = calculate_area


def calculate_area(pred, label, num_classes, ignore_index=255):
    """Pixels in which prediction and label agree, pixels predicted, and pixels labelled, per class.

    Reason: PaddleSeg concatenates one sum per class; since Paddle 2.5 a sum has no dimension and
    `concat` refuses it. Counting with `bincount` also reads each map three times, not three times
    per class. Can go: when PaddleSeg's release carries a version of its own that runs.

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

    def count(ids, where):
        where = paddle.logical_and(where, paddle.logical_and(ids >= 0, ids < num_classes))
        return paddle.bincount(paddle.where(where, ids, other), minlength=num_classes + 1)[:num_classes].astype("int64")

    known = label != ignore_index
    return (
        count(pred, paddle.logical_and(known, pred == label)),
        count(pred, known),
        count(label, paddle.ones_like(known)),
    )


@contextlib.contextmanager
def paddleseg_arithmetic():
    """Arithmetic between tensors of whole numbers and of floats meanwhile, whose result has the left one's type.

    Reason: PaddleSeg's losses multiply masks of whole numbers with floats, as Paddle 2 lets them; Paddle 3 raises a
        TypeError.
    Can go: when PaddleSeg's release computes its losses on Paddle 3.
    """
    import paddle

    if (paddle_version() or (0,)) < (3,):
        yield
        return
    operations = {
        name: getattr(paddle.Tensor, name)
        for name in ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__")
    }

    def of_the_left_type(operation):
        def operate(self, other):
            mixed = isinstance(other, paddle.Tensor) and paddle.is_floating_point(self) != paddle.is_floating_point(
                other
            )
            return operation(self, other.astype(self.dtype) if mixed else other)

        return operate

    for name, operation in operations.items():
        setattr(paddle.Tensor, name, of_the_left_type(operation))
    try:
        yield
    finally:
        for name, operation in operations.items():
            setattr(paddle.Tensor, name, operation)

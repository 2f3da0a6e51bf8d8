"""The images that INT8 is calibrated on, and the ranges of the network's tensors over them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from ppliteseg_paddle.errors import ConfigError, DataError, suggest
from ppliteseg_paddle.progress import bar

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tqdm import tqdm

METHODS = ("minmax", "entropy", "percentile")
_MAX_IMAGES = 300
# By default ONNX Runtime counts into as many bins as there are steps, where "entropy" can cut nothing off.
_HISTOGRAMS: dict[str, dict[str, Any]] = {
    "entropy": {"num_bins": 512, "num_quantized_bins": 128},
    "percentile": {"num_bins": 2048, "percentile": 99.99},
}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Calibration:
    """What INT8 is measured on.

    Args:
        images: paths of (image, label or None); the ranges come from the images.
        method: how a tensor's values become a range, one of `METHODS`.
        validation: pairs of (image, label) on which the loss of mIoU is stated; default: the labelled ones of `images`.
        sensitivity: whether to measure layers and keep in float those that hurt. If not, all are quantised and no loss
            is too large, as for a benchmark of random weights.
        progress: whether to show progress bars on stderr.
    Raises: ConfigError: for an unknown method. DataError: without images.
    """

    images: Sequence[tuple[str, str | None]]
    method: str = "minmax"
    validation: Sequence[tuple[str, str]] = ()
    sensitivity: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"unknown calib_method '{self.method}'.{suggest(self.method, METHODS)}")
        if not self.images:
            raise DataError(
                "there are no calibration images; INT8 needs some, 50 to 200 of the kind that the model will see."
            )


def read_calibration_list(path: str) -> list[tuple[str, str | None]]:
    """A list of images: a line holds an image and, if there is one, its label, relative to the list's folder.

    Raises: DataError: if it cannot be read, is empty, or names a file that does not exist.
    """
    from ppliteseg_paddle.reading.lists import read_list

    pairs = read_list(path, needs_label=False, must_exist=True, what="calib_data")
    return [(pair.image, pair.label) for pair in pairs]


def measure_ranges(
    network: str,
    input_name: str,
    operators: Sequence[str],
    batch: Callable[[str], NDArray[Any]],
    calibration: Calibration,
    aside: str,
) -> tuple[Any, int]:
    """Every tensor's range over the calibration images, which are read one at a time.

    Args: network: path of the ONNX file; batch: makes the network's input of an image's path; aside: a folder for files
        in between.
    Returns: the ranges, as ONNX Runtime's quantiser takes them, and the number of images.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    calibrator = create_calibrator(
        network,
        list(operators),
        os.path.join(aside, "calibrated.onnx"),
        methods[calibration.method],
        extra_options=_HISTOGRAMS.get(calibration.method, {}),
    )
    images = spread(calibration.images, _MAX_IMAGES)
    with progress_bar(calibration, len(images), "calibrating", "image") as bar:
        for image, _ in images:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
                calibrator.collect_data(_Once({input_name: batch(image)}))
            bar.update()
    with contextlib.redirect_stdout(io.StringIO()):
        return calibrator.compute_data(), len(images)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, evenly over the list."""
    import numpy as np

    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in places]


def progress_bar(calibration: Calibration, total: int, what: str, unit: str) -> tqdm[Any]:
    """A bar on stderr, where it is wanted and stderr is a terminal."""
    shown: tqdm[Any] = bar(total=total, shown=calibration.progress, desc=what, unit=unit, leave=False)
    return shown


class _Once:
    """A calibration reader of one batch, which it keeps: ONNX Runtime 1.19 gives the network's input among the outputs
    without a copy, and reads it after it has let go of what it was given."""

    def __init__(self, inputs: dict[str, NDArray[Any]]) -> None:
        self._inputs, self._given = inputs, False

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        given, self._given = self._given, True
        return None if given else self._inputs

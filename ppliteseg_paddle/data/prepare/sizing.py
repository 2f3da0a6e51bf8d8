"""The numbers of a starter configuration: crop, batch and length of the run, by the images and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

from ppliteseg_paddle.data.parallel import default_workers
from ppliteseg_paddle.environment import import_paddle
from ppliteseg_paddle.reading.limits import free_memory

# What PP-LiteSeg-T takes. Bytes a pixel of a batch, of the network and of each class: growth of the process over
# training steps with 2 to 150 classes and 0.3 to 2.1 megapixels was 865 to 1360 a pixel.
_BYTES, _CLASS_BYTES = 1000, 5
# Core seconds a megapixel of a training step and of each class in it, and of an evaluation; seconds of any step. A step
# of 4 images of 480x352 with 11 classes takes 1.8 s on two cores of a Zen 3 (AVX2); AVX-512 and AMX take half.
_STEP_SECONDS, _CLASS_SECONDS, _EVALUATION_SECONDS, _ANY_STEP_SECONDS = 4.7, 0.06, 2.5, 0.2

_CPU_HOURS = 4  # that a run on a CPU may take, evaluations included
_MEMORY_SHARE = 2  # one of so many parts of the free memory serves a step
_CROP_PIXELS = {False: 512 * 512, True: 1024 * 512}  # on a CPU, on a GPU: as in the Cityscapes recipe
_LONGEST_CROP, _CROP_STEP = 1024, 32
_BATCH, _LARGEST_BATCH, _SMALL_PIXELS = {False: 8, True: 16}, 32, 2**20  # small crops: up to a megapixel a step
_EPOCHS, _MAX_EPOCHS = 200, 500
_ITERS, _MAX_ITERS, _MIN_ITERS = 1000, {False: 40_000, True: 80_000}, 200
_EVALUATIONS, _CHEAP_EVALUATIONS, _CHEAP = 10, 20, 0.1  # the latter where they take no more than this share
_RATE, _LARGEST_RATE = 0.005, 0.04  # learning rate an image of a batch, from scratch
FINE_TUNING = 0.25  # of this rate, where the backbone is trained already


class Machine(NamedTuple):
    """cores; memory: free bytes, None where the system does not tell; gpu_memory: bytes of the first GPU, None where
    Paddle has none."""

    cores: int
    memory: int | None = None
    gpu_memory: int | None = None


class Extent(NamedTuple):
    """How much data there is. train, val: images; smallest: (width, height); mean_pixels: of an image."""

    train: int
    val: int
    smallest: tuple[int, int]
    mean_pixels: float
    num_classes: int

    @classmethod
    def of(cls, train: int, val: int, sizes: Sequence[tuple[int, int]], num_classes: int) -> Extent:
        """Args: sizes: (width, height) of images."""
        smallest = (min(width for width, _ in sizes), min(height for _, height in sizes))
        return cls(train, val, smallest, sum(width * height for width, height in sizes) / len(sizes), num_classes)


class RunPlan(NamedTuple):
    """crop: (width, height); memory: bytes of a step; hours: None on a GPU, of which nothing was measured."""

    crop: tuple[int, int]
    batch_size: int
    iters: int
    save_interval: int
    epochs: float
    memory: int
    hours: float | None

    @property
    def learning_rate(self) -> float:
        """From scratch."""
        return min(_LARGEST_RATE, _RATE * self.batch_size)


def this_machine() -> Machine:
    """What `train` will have, if it runs here and now."""
    return Machine(default_workers(), free_memory(), _gpu_memory())


def _gpu_memory() -> int | None:
    try:
        metadata.version("paddlepaddle-gpu")  # the import takes seconds
    except metadata.PackageNotFoundError:
        return None
    paddle = import_paddle()
    if not paddle.is_compiled_with_cuda() or paddle.device.cuda.device_count() < 1:
        return None
    return int(paddle.device.cuda.get_device_properties(0).total_memory)


def plan_run(data: Extent, machine: Machine) -> RunPlan:
    """Choose so that a step fits into the memory, a run on a CPU ends, and the first evaluation comes within its first
    tenth."""
    gpu = machine.gpu_memory is not None
    memory = machine.gpu_memory if gpu else machine.memory
    bytes_a_pixel = _BYTES + _CLASS_BYTES * data.num_classes
    room = None if memory is None else memory // _MEMORY_SHARE // bytes_a_pixel  # pixels
    area = _CROP_PIXELS[gpu] if room is None else min(_CROP_PIXELS[gpu], room // 2)  # two images at least
    crop = _crop(data.smallest, area)
    pixels = crop[0] * crop[1]
    batch = min(max(_BATCH[gpu], min(_LARGEST_BATCH, _SMALL_PIXELS // pixels)), max(1, data.train))
    batch = _power_of_two(batch if room is None else max(1, min(batch, room // pixels)))

    epoch = data.train / batch
    iters = min(max(_EPOCHS * epoch, _ITERS), _MAX_EPOCHS * epoch, _MAX_ITERS[gpu])
    a_megapixel = (_STEP_SECONDS + _CLASS_SECONDS * data.num_classes) / machine.cores
    step = _ANY_STEP_SECONDS + batch * pixels / 1e6 * a_megapixel
    evaluation = data.val * data.mean_pixels / 1e6 * _EVALUATION_SECONDS / machine.cores
    if not gpu:
        time = 3600 * _CPU_HOURS
        iters = min(iters, max(time - _EVALUATIONS * evaluation, time / 2) / step)
        iters = max(iters, epoch)
    iters = _round(max(iters, _MIN_ITERS))
    cheap = _CHEAP_EVALUATIONS * evaluation <= _CHEAP * iters * step
    evaluations = _CHEAP_EVALUATIONS if cheap else _EVALUATIONS
    hours = None if gpu else (iters * step + evaluations * evaluation) / 3600
    return RunPlan(crop, batch, iters, iters // evaluations, iters / epoch, batch * pixels * bytes_a_pixel, hours)


def _crop(size: tuple[int, int], area: float) -> tuple[int, int]:
    """The whole image, where it has no more pixels; else the largest crop of its shape, sides in steps of 32."""
    if size[0] * size[1] <= area and max(size) <= _LONGEST_CROP:
        return max(size[0], _CROP_STEP), max(size[1], _CROP_STEP)
    scale = min(1.0, (area / (size[0] * size[1])) ** 0.5)
    width, height = (int(min(side * scale, _LONGEST_CROP)) // _CROP_STEP * _CROP_STEP for side in size)
    return max(_CROP_STEP, width), max(_CROP_STEP, height)


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _round(iters: float) -> int:
    """Down to a number whose tenth and twentieth part are whole."""
    step = 100 if iters >= 1000 else 20
    return int(iters) // step * step

"""Batch norm's statistics counted anew for the final weights.

What training leaves are averages over its last steps: of weights that still moved, and of crops, scales and colors that
no evaluation shows. After the last step, before its evaluation and checkpoint, the statistics are counted over training
images as an evaluation sees them. That costs forward passes only.

Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.engine.loop.data_parallel import AfterStep
from ppliteseg_paddle.engine.loop.distributed import rank, ranks, sum_over_ranks
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.progress import bar


class PreciseStatistics:
    """Sets a model's batch norm statistics to those of training images.

    Args:
        dataset: what the model is trained on (`CheckedDataset`).
        transforms: `Compose` of an evaluation.
        images: how many are read, spread evenly over the data set; each rank reads its share.
        batch_size: images of one size in a forward pass; at least 2, as a pooled map of one image has no variance: an
            image that is left over is not counted.
        autocast: gives the context of mixed precision.
    """

    def __init__(
        self,
        dataset,
        transforms,
        images: int,
        batch_size: int,
        autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self.dataset, self.transforms, self.autocast = dataset, transforms, autocast
        self.batch_size = max(2, batch_size)
        count = min(images, len(dataset))
        self.indices: list[int] = sorted({i * len(dataset) // count for i in range(count)})

    @property
    def steps(self) -> float:
        """Batches of each rank."""
        return len(self._own()) / self.batch_size

    def _own(self) -> list[int]:
        import paddle

        # Synchronised batch norm (GPU) wants all ranks to compute equally often, which with images of several sizes
        # only equal shares do.
        return self.indices if paddle.get_device() != "cpu" else self.indices[rank() :: ranks()]

    def __call__(self, model) -> None:
        """Count, and set. All ranks have to call it.

        The mean is that of all pixels; the variance is within batches and between them (the mean of squares, less the
        square of the mean).
        """
        import paddle

        layers = [
            layer
            for layer in model.sublayers()
            if hasattr(layer, "_mean") and hasattr(layer, "_variance") and not getattr(layer, "_use_global_stats", None)
        ]
        if not layers:
            return
        kept, training = [layer._momentum for layer in layers], model.training
        before = [(tensor, tensor.numpy().copy()) for layer in layers for tensor in (layer._mean, layer._variance)]
        total = np.zeros(1 + 2 * sum(layer._mean.size for layer in layers))
        model.train()
        try:
            for layer in layers:
                layer._momentum = 0.0  # its running statistics are then those of the last batch
            with paddle.no_grad(), self.autocast():
                for batch in self._batches():
                    model(paddle.to_tensor(batch))
                    means, variances = (
                        np.concatenate([getattr(layer, name).numpy() for layer in layers]).astype(np.float64)
                        for name in ("_mean", "_variance")
                    )
                    total += len(batch) * np.concatenate([[1.0], means, variances + means**2])
            total = sum_over_ranks(total)
        except BaseException:  # a rank that is told to end saves the model
            for tensor, value in before:
                tensor.set_value(value)
            raise
        finally:
            for layer, momentum in zip(layers, kept):
                layer._momentum = momentum
            model.train() if training else model.eval()
        if not total[0]:
            if rank() == 0:
                print(
                    "precise_bn: no two images have one size, so batch norm keeps the statistics of training",
                    flush=True,
                )
            return
        means, squares = np.split(total[1:] / total[0], 2)
        ends = np.cumsum([layer._mean.size for layer in layers])[:-1]
        for layer, mean, square in zip(layers, np.split(means, ends), np.split(squares, ends)):
            layer._mean.set_value(mean.astype(np.float32))
            layer._variance.set_value(np.maximum(square - mean**2, 0).astype(np.float32))

    def _batches(self) -> Iterator[np.ndarray]:
        """(N, C, H, W) float32, of images of one size; N > 1."""
        waiting: dict = {}
        for index in bar(self._own(), shown=rank() == 0, desc="batch norm", unit="image", leave=False):
            image = self.dataset.transformed(index, self.transforms)
            group = waiting.setdefault(image.shape, [])
            group.append(image)
            if len(group) == self.batch_size:
                yield np.stack(waiting.pop(image.shape))
        for group in waiting.values():
            if len(group) > 1:
                yield np.stack(group)


def precise_statistics_of(config, builder, dataset, autocast) -> PreciseStatistics | None:
    """What the configuration's `precise_bn` asks for; None without it.

    Raises: ConfigError: without a val_dataset, whose transforms say how an evaluation sees an image; for a data set
        that is not ours; with to_static_training, whose compiled steps have the momentum inside.
    """
    images = config.dic.get("precise_bn")
    if not images:
        return None
    if not config.val_dataset_cfg:
        raise ConfigError(
            f"{config.source.path}: precise_bn needs a val_dataset, whose transforms the images go through: add one, "
            "or set precise_bn: 0."
        )
    if config.to_static_training:
        raise ConfigError(
            f"{config.source.path}: precise_bn and to_static_training exclude each other: set one of them to 0."
        )
    if not hasattr(dataset, "transformed"):
        raise ConfigError(
            f"{config.source.path}: precise_bn works with `type: Dataset`, Cityscapes and our data sets, not with "
            f"{type(dataset).__name__}: set precise_bn: 0."
        )
    from paddleseg.transforms import Compose

    return PreciseStatistics(
        dataset, Compose(builder.val_transforms, img_channels=dataset.img_channels), images, config.batch_size, autocast
    )


# --------------------------------------------------------------------------------------------
# At the end of the loop, which evaluates and saves right after its last step
# --------------------------------------------------------------------------------------------
def precise_at_the_end(run: LoopRun, profiler: Any) -> Any:
    """`train_profiler` after whose last step the model's statistics are counted."""

    def then() -> None:
        if run.precise_bn is not None and run.at_the_end:
            run.precise_bn(run.model)

    return AfterStep(profiler, then)


def precise_average_at_the_end(run: LoopRun, update: Callable) -> Callable:
    """`update_ema_model` after whose last call the averaged model's statistics are counted."""

    def update_and_count(ema_model: Any, *args: Any, **kwargs: Any) -> None:
        update(ema_model, *args, **kwargs)
        if run.precise_bn is not None and run.at_the_end:
            run.precise_bn(ema_model)

    return update_and_count

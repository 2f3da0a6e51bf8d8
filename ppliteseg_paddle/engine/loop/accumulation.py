"""Gradient accumulation: the loop reads the images of a whole update at once, and computes them in parts.

The loop's own step computes the last part. Those before it are computed when the loop asks for its batch, and leave
their gradients to it, so that its update, and all that follows, is that of the whole batch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.engine.loop.precision import autocast
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.sampling import seed_step
from ppliteseg_paddle.engine.loop.steps import losses_with_a_dimension


def loader_of_parts(run: LoopRun, original: Callable[..., Any]) -> Callable[..., Any]:
    """`paddle.io.DataLoader` that gives the loop the last part of each batch, with the others computed.

    Reason: the loop updates the weights after each batch.
    """
    return original if run.accumulate == 1 else lambda *args, **kwargs: _Loader(run, original(*args, **kwargs))


def sum_of_parts(run: LoopRun, original: Callable) -> Callable:
    """`sum`, which the loop calls on the losses of the last part: those of the whole batch, differentiable in the last
    part alone, as the others have left their gradients."""
    if run.accumulate == 1:
        return original

    def add_up(losses: Sequence[Any]) -> Any:
        whole = [sum(terms) for terms in zip(_weighted(losses, run.shares), *run.earlier_losses)]
        run.earlier_losses = []
        return original(whole)

    return add_up


class _Loader:
    def __init__(self, run: LoopRun, loader: Any):
        self.run, self.loader = run, loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            parts = _split(batch, self.run.accumulate)
            if not self.run.at_the_end:  # the loop reads one batch more than it computes
                _compute_all_but_last(self.run, parts)
            yield parts[-1]


def _split(batch: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """A batch in `count` equal parts. What is no tensor is in each of them."""
    size = batch["img"].shape[0] // count
    return [
        {
            name: value[size * part : size * (part + 1)] if hasattr(value, "stop_gradient") else value
            for name, value in batch.items()
        }
        for part in range(count)
    ]


def _compute_all_but_last(run: LoopRun, parts: Sequence[dict[str, Any]]) -> None:
    begin = time.monotonic()
    shares = shares_of(run.losses["types"], [part["label"].numpy() for part in parts])
    run.earlier_losses = []
    for number, part in enumerate(parts[:-1]):
        seed_step(run, number)
        without_transfer = run.parallel.no_sync() if run.parallel is not None else contextlib.nullcontext()
        with without_transfer:
            with autocast(run.precision, run.amp_level):
                losses = _weighted(_losses(run, part), shares[number])
                total = sum(losses)
            (total if run.loss_scaler is None else run.loss_scaler.scale(total)).backward()
        run.earlier_losses.append([loss.detach() for loss in losses])
    run.shares = shares[-1]
    run.computed_ahead = time.monotonic() - begin


def _losses(run: LoopRun, data: dict[str, Any]) -> list[Any]:
    """The losses of a part, as the loop computes them (PaddleSeg `core/train.py::train`)."""
    from paddleseg.core.train import loss_computation

    images = data["img"]
    if getattr(run.model, "data_format", "NCHW") == "NHWC":
        images = images.transpose((0, 2, 3, 1))
    logits = (run.model if run.parallel is None else run.parallel)(images)
    if hasattr(run.model, "loss_computation"):
        return run.model.loss_computation(logits, run.losses, data)
    edges = data["edge"].astype("int64") if "edge" in data else None
    compute = losses_with_a_dimension(run, loss_computation)
    return compute(logits_list=logits, labels=data["label"].astype("int64"), edges=edges, losses=run.losses)


def _weighted(losses: Sequence[Any], shares: Sequence[float]) -> list[Any]:
    """Losses times their part's share: one for each, or the first for all of them."""
    each = list(shares) if len(shares) == len(losses) else [shares[0]] * len(losses)
    return [loss * share for loss, share in zip(losses, each)]


def shares_of(types: Sequence[Any], labels: Sequence[np.ndarray]) -> list[list[float]]:
    """How much each part counts in each loss of the whole batch: a mean over pixels is that of the parts, weighted by
    the pixels of each that count.

    Args: types: of `loss:` as built; those inside a MixedLoss count by themselves, as the loop lists them.
    Returns: for each part, for each loss.
    """
    losses = [inner for loss in types for inner in (loss.losses if type(loss).__name__ == "MixedLoss" else [loss])]
    counts = np.array([[_counted(loss, label) for loss in losses] for label in labels])
    total = counts.sum(axis=0)
    return np.where(total > 0, counts / np.maximum(total, 1e-30), 1 / len(labels)).tolist()


def _counted(loss: Any, label: np.ndarray) -> float:
    """Pixels of a label that a loss averages over; with class weights, their sum."""
    if not getattr(loss, "avg_non_ignore", True):  # of PaddleSeg's CrossEntropyLoss
        return float(label.size)
    ids = label[label != getattr(loss, "ignore_index", 255)].astype(np.int64)
    weight = getattr(loss, "weight", None)
    if weight is None or isinstance(weight, str) or (label.ndim == 4 and label.shape[1] > 1):  # planes: multi-label
        return float(ids.size)
    weights = np.ravel(np.asarray(weight, np.float64))
    return float(weights[ids].sum()) if ids.size and ids.max() < weights.size else float(ids.size)

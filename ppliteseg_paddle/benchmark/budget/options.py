"""What `ppliteseg benchmark --budget_ms` is asked for. The command's help needs this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# (height, width) of the image where no option says another: Cityscapes'.
IMAGE_SIZE = (1024, 2048)


@dataclass(frozen=True)
class BudgetOptions:
    """What is to fit into which time.

    Args:
        budget_ms: milliseconds from an image's pixels to its mask; inputs that take several times as long are skipped.
        size: (height, width) of the image; None takes the file's, or `IMAGE_SIZE`.
        config: a configuration with classes and data of one's own; None is for Cityscapes.
        image_path: the image; None generates one.
        backends: names of runtimes; "auto" takes those that are installed of the ones that `auto` times.
        device, num_threads: as `open_backend` has them.
        warmup, repeats: calls of each point before and while it is timed; None: two, and a second of them.
    """

    budget_ms: float
    size: tuple[int, int] | None = None
    config: str | None = None
    image_path: str | None = None
    backends: Sequence[str] = ("auto",)
    device: str | None = None
    num_threads: int | None = None
    warmup: int | None = None
    repeats: int | None = None

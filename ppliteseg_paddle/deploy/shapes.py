"""The smallest, the usual and the largest input of a graph whose sizes are open: `--dynamic_shape MIN OPT MAX`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ppliteseg_paddle.errors import ConfigError

Shape = tuple[int, int, int, int]
_SIDES = ("smallest", "usual", "largest")


class ShapeRange(NamedTuple):
    """Three shapes (N, C, H, W). TensorRT plans its memory for the largest one and its kernels for the usual one."""

    min: Shape
    opt: Shape
    max: Shape

    @property
    def open_shape(self) -> Shape:
        """The graph's input: -1 where sizes differ. Height and width are open together, a batch of several always
        is."""
        fixed = self.min[2:] == self.max[2:]
        return (1 if self.max[0] == 1 else -1, self.max[1]) + (self.max[2:] if fixed else (-1, -1))

    def contains(self, shape: Sequence[int]) -> bool:
        """Whether an input of that shape lies between the smallest and the largest."""
        return len(shape) == 4 and all(low <= size <= high for low, size, high in zip(self.min, shape, self.max))

    def channels_last(self) -> ShapeRange:
        """The same in the layout NHWC."""
        return ShapeRange(*((n, h, w, c) for n, c, h, w in self))

    def to_dict(self) -> dict[str, Any]:
        return {name: list(shape) for name, shape in self._asdict().items()}


def shape_range(
    shapes: Sequence[Sequence[int]] | Mapping[str, Sequence[int]] | None, channels: int = 3
) -> ShapeRange | None:
    """Check three shapes as a user gives them, or by the names of `ShapeRange`. None stays None.

    Args: channels: of the images.
    Raises: ConfigError: if they are not three shapes N C H W in order of size.
    """
    if shapes is None:
        return None
    if isinstance(shapes, Mapping):
        named: list[Any] = [shapes.get(name) for name in ShapeRange._fields]
        shapes = named
    if not isinstance(shapes, (list, tuple)) or len(shapes) != 3:
        raise ConfigError(
            f"dynamic_shape is {shapes!r}; give three shapes, MIN OPT MAX, as in 1,3,256,256 1,3,512,1024 "
            "4,3,1024,2048."
        )
    for side, shape in zip(_SIDES, shapes):
        whole = isinstance(shape, (list, tuple)) and all(
            isinstance(size, int) and not isinstance(size, bool) for size in shape
        )
        if not whole or len(shape) != 4 or min(shape) < 1 or shape[1] != channels:
            raise ConfigError(
                f"dynamic_shape: the {side} shape is "
                f"{(','.join(map(str, shape)) if isinstance(shape, (list, tuple)) else shape)}; give "
                f"N,{channels:d},H,W, integers of at least 1, as in 1,{channels:d},512,1024."
            )
    found = ShapeRange(*(tuple(shape) for shape in shapes))
    for name, low, usual, high in zip("NCHW", *found):
        if not low <= usual <= high:
            raise ConfigError(
                f"dynamic_shape: {name} goes {low:d}, {usual:d}, {high:d}, but the usual shape must lie between the "
                "smallest and the largest."
            )
    return found

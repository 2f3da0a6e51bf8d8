"""What the images of a data set are: how many channels, and which range their values have.

Values of more than 8 bits are brought to levels, 0 to 255 in floating point, so that everything that follows (scaling,
jitter, `Normalize`, padding values) means the same for every depth, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ppliteseg_paddle.errors import ConfigError

if TYPE_CHECKING:  # `export --help` does without NumPy
    import numpy as np
    from numpy.typing import NDArray

MAX_CHANNELS = 512  # OpenCV's limit, which scales images
ValueRange = tuple[tuple[float, float], ...]  # (low, high), one for all channels or one for each


class ImageForm(NamedTuple):
    """Channels of an image, and the values that become level 0 and level 255.

    Attributes: `channels`; `value_range`: None for images of 8 bits.
    """

    channels: int = 3
    value_range: ValueRange | None = None

    @classmethod
    def checked(cls, channels: Any = 3, value_range: Any = None) -> ImageForm:
        """From `img_channels` and `img_range` of a configuration.

        Args: value_range: [low, high], or one such pair for each channel.
        Raises: ConfigError: for what cannot be.
        """
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
            raise ConfigError(f"img_channels is {channels!r}: give an integer from 1 to {MAX_CHANNELS:d}.")
        if value_range is None:
            return cls(channels)
        pairs = [value_range] if _is_pair(value_range) else value_range
        if not isinstance(pairs, (list, tuple)) or not all(_is_pair(pair) for pair in pairs):
            raise ConfigError(
                f"img_range is {value_range!r}: give the values that become black and white, as in [0, 4095], or one "
                "such pair for each channel."
            )
        if len(pairs) not in (1, channels):
            raise ConfigError(
                f"img_range has {len(pairs):d} pairs for {channels:d} channels: give one, or one for each."
            )
        return cls(channels, tuple((float(low), float(high)) for low, high in pairs))

    @classmethod
    def of(cls, dataset: Any) -> ImageForm:
        """That of a data set, `img_channels` and `img_range`; 3 channels of 8 bits where it does not say."""
        return cls.checked(getattr(dataset, "img_channels", 3), getattr(dataset, "img_range", None))

    @classmethod
    def of_block(cls, block: Mapping[str, Any] | None) -> ImageForm:
        """That of a data set's block in a configuration."""
        block = block or {}
        return cls.checked(block.get("img_channels", 3), block.get("img_range"))

    @property
    def plain(self) -> bool:
        """Whether this is what OpenCV reads by itself: color or gray in 8 bits."""
        return self.channels in (1, 3) and self.value_range is None

    @property
    def dtype(self) -> type[np.generic]:
        import numpy as np

        return np.uint8 if self.value_range is None else np.float32

    def to_plain(self) -> list[list[float]] | None:
        """`value_range` for YAML and JSON."""
        return None if self.value_range is None else [list(pair) for pair in self.value_range]

    def levels(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Bring values to levels: 0 at the range's low end and below, 255 at its high end and above. What is no
        number (NaN) becomes 0.

        Shape: pixels (H, W) or (H, W, C), of 3 channels BGR; returns float32 of that shape.
        """
        import numpy as np

        lows, highs = (np.array(ends, np.float64) for ends in zip(*(self.value_range or ((0.0, 255.0),))))
        if len(lows) == 3 and pixels.ndim == 3:  # the range is in the file's order, RGB
            lows, highs = lows[::-1], highs[::-1]
        scale = (255.0 / (highs - lows)).astype(np.float32)
        # In double only where single precision would lose bits of the values themselves.
        wide = pixels.dtype.kind in "ui" and pixels.dtype.itemsize > 2 or pixels.dtype == np.float64
        kind = np.float64 if wide else np.float32
        difference = pixels.astype(kind) - lows.astype(kind)
        result: NDArray[np.float32] = (difference * scale).astype(np.float32)
        np.clip(result, 0, 255, out=result)
        result[np.isnan(result)] = 0
        return result


COLOR = ImageForm()  # 8 bits, as most images are


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(end, (int, float)) and not isinstance(end, bool) and math.isfinite(end) for end in value)
        and value[0] < value[1]
    )

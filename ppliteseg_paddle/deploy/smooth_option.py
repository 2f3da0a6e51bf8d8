"""The option `smooth`, apart from what computes it (`smoothing`): `--help` loads neither NumPy nor OpenCV."""

from __future__ import annotations

from ppliteseg_paddle.errors import ConfigError

SMOOTH = 0.65  # `--smooth` without a number


def check_smooth(smooth: float) -> None:
    """Raises: ConfigError: unless it is a number from 0 to below 1."""
    if isinstance(smooth, bool) or not isinstance(smooth, (int, float)) or not 0 <= smooth < 1:
        raise ConfigError(f"smooth is {smooth!r}; give a number from 0 (off) to below 1, such as {SMOOTH}.")

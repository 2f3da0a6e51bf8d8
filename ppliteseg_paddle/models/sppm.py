"""SPPM, the neck: the Simple Pyramid Pooling Module.

Source: arXiv 2204.02681, section 3.3; PaddleSeg `models/pp_liteseg.py::PPContextModule`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.layers import ConvBNReLU, resize, spatial_size


class SPPM(nn.Layer):
    """Average the deepest feature over grids of bins, project each grid, and add them up at full size.

    Args:
        in_channels: channels of the backbone's deepest feature.
        out_channels: channels of the result.
        bin_sizes: bins along each side of each grid. Any input size is exact: a map that does not divide
            by a bin size gets the overlapping windows of adaptive pooling.
    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Raises: ConfigError: if a bin size is no positive integer.
    """

    def __init__(self, in_channels: int, out_channels: int = 128, bin_sizes: Sequence[int] = (1, 2, 4)):
        super().__init__()
        if not bin_sizes or any(not isinstance(b, int) or isinstance(b, bool) or b < 1 for b in bin_sizes):
            raise ConfigError(f"SPPM's bin_sizes must be positive integers such as [1, 2, 4], but is {bin_sizes!r}.")
        self.in_channels, self.out_channels, self.bin_sizes = in_channels, out_channels, tuple(bin_sizes)
        self.convs = nn.LayerList([ConvBNReLU(in_channels, out_channels, 1, bias=True) for _ in bin_sizes])
        self.conv_out = ConvBNReLU(out_channels, out_channels, 3, bias=True)
        self.input_size: tuple[int, int] | None = None  # (H, W) once fixed
        self.computed_windows = False

    def forward(self, x):
        size = spatial_size(x)
        total = None
        for i, conv in enumerate(self.convs):
            branch = resize(conv(self._pool(x, i)), size)
            total = branch if total is None else total + branch
        return self.conv_out(total)

    def fix_input_size(self, height: int, width: int) -> None:
        """Replace adaptive pooling by a product with a constant matrix, for export at one size.

        Some runtimes cannot import adaptive pooling, or only with a rounded window, which is wrong
        wherever the map does not divide by the bin size. The product is exact at every size. It has the
        constant on its right and rank 3 on its left: oneDNN of Paddle 2.6 and 3.2 computes another form,
        constant (bins, H) times (N, C, H, W), wrongly.

        Args: height, width: size of this module's input, in cells.
        """
        self.input_size = (height, width)
        for i, bins in enumerate(self.bin_sizes):
            windows = np.kron(averaging_matrix(height, bins), averaging_matrix(width, bins))  # (bins * bins, H * W)
            self.register_buffer(f"windows_{i:d}", paddle.to_tensor(np.ascontiguousarray(windows.T)))

    def compute_windows(self) -> None:
        """Replace adaptive pooling by products with matrices that the graph computes from its input's size, for formats
        without an adaptive pooling of their own, such as ONNX. Exact at every size, and any size may come."""
        self.computed_windows = True

    def _pool(self, x, i: int):
        bins = self.bin_sizes[i]
        if self.input_size is None and self.computed_windows:
            height, width = windows_in_graph(x, bins)
            return paddle.matmul(height, paddle.matmul(x, paddle.transpose(width, [1, 0])))
        if self.input_size is None:
            return F.adaptive_avg_pool2d(x, bins)
        averages = paddle.matmul(paddle.flatten(x, 2), getattr(self, f"windows_{i:d}"))
        return paddle.reshape(averages, [0, 0, bins, bins])


def averaging_matrix(size: int, bins: int) -> np.ndarray:
    """(bins, size) float32 matrix whose row i averages adaptive pooling's window i: floor of start to ceiling of
    end."""
    matrix = np.zeros((bins, size), np.float32)
    for i in range(bins):
        start, end = (i * size) // bins, -((-(i + 1) * size) // bins)
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix


def windows_in_graph(x, bins: int):
    """`averaging_matrix` of x's height and of its width, computed by the graph itself. Shape: (bins, H) and (bins,
    W)."""
    matrices = []
    size = paddle.shape(x)
    for axis in (2, 3):
        length = size[axis].astype("int64")
        bin_numbers = paddle.unsqueeze(paddle.arange(bins, dtype="int64"), 1)
        start = paddle.floor_divide(bin_numbers * length, paddle.full([1], bins, "int64"))
        # Ceiling of the end, in integers.
        end = paddle.floor_divide((bin_numbers + 1) * length + (bins - 1), paddle.full([1], bins, "int64"))
        cells = paddle.unsqueeze(paddle.arange(0, length, 1, dtype="int64"), 0)
        inside = paddle.logical_and(cells >= start, cells < end).astype("float32")
        matrices.append(inside / (end - start).astype("float32"))
    return matrices

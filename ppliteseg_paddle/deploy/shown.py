"""What `Predictor(...)(image)` returns: a prediction that shows and saves itself."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.palettes import OPACITY
from ppliteseg_paddle.visual.areas import class_areas
from ppliteseg_paddle.visual.bands import shown_image
from ppliteseg_paddle.visual.overlays import Overlays
from ppliteseg_paddle.visual.png import write_image, write_mask

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, eq=False)
class Result:
    """One segmented image. In a notebook it shows itself as the overlay.

        result = predictor("street.jpg")
        result.mask                       # (H, W) class ids
        result.save("overlay.png")

    Attributes: `image` (H, W, 3) uint8 BGR, or as `artifact.image_form` says; `mask` (H, W) class ids at the image's
    size, of a multi-label model planes (H, W, classes); `confidence` (H, W) float32 from 0 to 1, None unless asked for;
    `label_set`: names and colors of the classes.
    """

    image: NDArray[Any]
    mask: NDArray[Any]
    label_set: LabelSet
    confidence: NDArray[Any] | None = None

    def plot(self, opacity: float = OPACITY, legend: bool = True) -> PIL.Image.Image:
        """The classes' colors over the image, RGB, with a legend below.

        Raises: ConfigError: for an opacity outside 0 to 1.
        """
        from PIL import Image

        return Image.fromarray(self._overlay(opacity, legend)[:, :, ::-1])

    def save(self, path: str | os.PathLike[str], opacity: float = OPACITY, legend: bool = True) -> None:
        """Write the overlay; the extension says as what. Raises: DataError: if it cannot be written."""
        write_image(os.fspath(path), self._overlay(opacity, legend))

    def save_mask(self, path: str | os.PathLike[str]) -> None:
        """Write the class ids as a PNG whose palette has the classes' colors, 16 bits deep above 256 classes.

        Raises: DataError: if it cannot be written.
        """
        write_mask(os.fspath(path), self.mask, self.label_set.palette)

    def _overlay(self, opacity: float, legend: bool) -> NDArray[Any]:
        return Overlays(self.label_set, opacity, legend).draw(shown_image(self.image), self.mask)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.plot().save(buffer, "png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        height, width = self.mask.shape[:2]
        areas = zip(class_areas(self.mask, self.label_set.num_classes).tolist(), self.label_set.classes)
        largest = sorted(areas, key=lambda area: -area[0])[:5]
        listed = ", ".join(f"{name} {100 * area / (height * width):.1f} %" for area, name in largest if area)
        return f"Result({width:d}x{height:d} pixels: {listed})"

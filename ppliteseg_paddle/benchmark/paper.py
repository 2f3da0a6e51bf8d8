"""The figures that the paper reports, as data: printed and drawn beside what is measured here, never mixed with it.

Source: arXiv 2204.02681, tables 2 and 4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SETTING = "GTX 1080 Ti, ONNX to TensorRT 7.1.3, FP32, batch 1; resizing the image and the mask included"


class Reported(NamedTuple):
    """A row of a table: the network's input in (height, width), mIoU in percent, frames per second."""

    name: str
    size: tuple[int, int]
    val_miou: float | None
    test_miou: float | None
    fps: float | None
    dataset: str = "Cityscapes"
    table: int = 2

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "size": list(self.size), "source": f"paper, table {self.table:d}", "setting": SETTING}


SMALL, LARGE, CAMVID = (512, 1024), (768, 1536), (720, 960)
# key -> what the paper reports. The keys are those of `benchmark.networks.NETWORKS`.
REPORTED: dict[str, Reported] = {
    "T1": Reported("PP-LiteSeg-T1", SMALL, 73.1, 72.0, 273.6),
    "B1": Reported("PP-LiteSeg-B1", SMALL, 75.3, 73.9, 195.3),
    "T2": Reported("PP-LiteSeg-T2", LARGE, 76.0, 74.9, 143.6),
    "B2": Reported("PP-LiteSeg-B2", LARGE, 78.2, 77.5, 102.6),
    "STDC1-Seg50": Reported("STDC1-Seg50", SMALL, 72.2, 71.9, 250.4),
    "STDC2-Seg50": Reported("STDC2-Seg50", SMALL, 74.2, 73.4, 188.6),
    "STDC1-Seg75": Reported("STDC1-Seg75", LARGE, 74.5, 75.3, 126.7),
    "STDC2-Seg75": Reported("STDC2-Seg75", LARGE, 77.0, 76.8, 97.0),
    "BiSeNetV2": Reported("BiSeNetV2", SMALL, 73.4, 72.6, 156.0),
    "T-CamVid": Reported("PP-LiteSeg-T", CAMVID, None, 73.3, 222.3, "CamVid", 4),
    "B-CamVid": Reported("PP-LiteSeg-B", CAMVID, None, 75.0, 154.8, "CamVid", 4),
}
TABLE2: list[str] = [key for key, row in REPORTED.items() if row.table == 2]


def reported_order(keys: list[str]) -> list[str]:
    """Those keys, fastest first, in the paper's order; keys that it does not report are skipped."""
    return sorted(
        (key for key in keys if key in REPORTED and REPORTED[key].fps), key=lambda key: -(REPORTED[key].fps or 0)
    )

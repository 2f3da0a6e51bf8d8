"""What a run of predictions tells about itself: how many, how fast, by what, and where the results are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.tally import Tally

# What can be written of a prediction; see `results`.
KINDS = ("mask", "overlay", "color", "confidence", "rle", "geojson")
OVERLAY_FORMATS = ("png", "jpg")  # of images; the first one unless told otherwise
OF_IMAGES_ONLY = ("rle", "geojson")  # not of videos
_PLURALS = {
    **{"mask": "masks", "overlay": "overlays", "color": "colors", "confidence": "confidences"},
    **{"rle": "RLE", "geojson": "GeoJSON"},
}
_JOINED = {"averaged": "scores averaged where they overlap", "stitched": "joined in the middle of overlaps"}
_SHOWN = 5  # classes in the summary's line of areas


def report(predictor: Any, tally: Tally, save_dir: str, number: int, seconds: float) -> dict[str, Any]:
    """What results of images and of videos have in common; `fps` counts reading and writing, too."""
    sliding = getattr(predictor, "sliding", None)
    windows = sliding and {
        "crop_size": list(sliding.windows.crop_size),
        "stride": list(sliding.windows.stride),
        "joined": sliding.joined,
    }
    return {
        "save_dir": save_dir,
        "seconds": round(seconds, 3),
        "fps": round(number / max(seconds, 1e-9), 2),
        "backend": predictor.backend.describe(),
        "batch_size": getattr(predictor, "batch_size", 1),
        "streams": getattr(predictor, "streams", 1),
        "windows": windows,
        "area": tally.area(),
        "unknown": tally.unknown(),
    }


def summary(result: Mapping[str, Any]) -> str:
    """What a person reads after `ppliteseg predict`."""
    backend = result["backend"]
    what = _counted(result["frames"], "frame") if "frames" in result else _counted(result["images"], "image")
    lines = [
        f"{what} in {result['seconds']:.1f} s ({result['fps']:.1f} a second) with {backend['name']} on "
        f"{backend['device']} ({backend['runtime']} {backend['version']})"
    ]
    if result.get("kept"):
        lines.append(f"kept        {_counted(result['kept'], 'image')} of an earlier run")
    submission = result.get("submission")
    if submission:
        missing = "" if submission["test_set"] else f"; the test set has {submission['expected']:d}"
        lines.append(f"submission  {submission['archive']} ({submission['images']:d} predictions{missing})")
    lines += [f"{_PLURALS[kind]:11} {path}" for kind, path in result["outputs"].items()]
    if result.get("coco"):
        lines.append(f"COCO        {result['coco']}")
    if any(row["pixels"] for row in result["area"].values()):
        lines.append(f"area        {_largest(result['area'])}")
    if result["windows"]:
        (width, height), (right, down) = result["windows"]["crop_size"], result["windows"]["stride"]
        lines.append(
            f"windows     {width:d}x{height:d}, every {right:d}x{down:d} pixels; {_JOINED[result['windows']['joined']]}"
        )
    if result["unknown"] is not None:
        lines.append(
            f"unknown     {100 * result['unknown']['share']:.1f} % of the pixels (value {result['unknown']['id']:d})"
        )
    if result.get("grid"):
        lines.append(f"grid        {result['grid']}")
    if result.get("frames_missing"):
        lines.append(
            f"the video says that it has {result['frames_missing']:d} more frames, which could not be decoded: it may "
            "be cut off"
        )
    if result.get("unreadable"):
        lines.append(f"{_counted(len(result['unreadable']), 'image')} not segmented; the reasons are on stderr")
    return "\n".join(lines)


def _largest(area: Mapping[str, Mapping[str, Any]]) -> str:
    """The classes with the largest shares, as a line."""
    rows = sorted(((row["share"], name) for name, row in area.items() if row["pixels"]), key=lambda row: -row[0])
    more = f", {_counted(len(rows) - _SHOWN, 'class', 'classes')} more" if len(rows) > _SHOWN else ""
    return ", ".join(f"{name} {100 * share:.1f} %" for share, name in rows[:_SHOWN]) + more


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"1 {one}" if number == 1 else f"{number:d} {many or one + 's'}"

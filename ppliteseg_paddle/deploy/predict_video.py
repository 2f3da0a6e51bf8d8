"""Segment a video, a camera or a stream: the content of `ppliteseg predict` for videos."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle import progress, signals
from ppliteseg_paddle.deploy.pipeline import overlapped
from ppliteseg_paddle.deploy.predict_images import Opener
from ppliteseg_paddle.deploy.predict_report import report
from ppliteseg_paddle.deploy.results import VideoResults
from ppliteseg_paddle.deploy.tally import Tally
from ppliteseg_paddle.deploy.video import CODECS, Pace, VideoReader
from ppliteseg_paddle.outputs import Outputs


def predict_video(
    source: str | int,
    open_predictor: Opener,
    outputs: Outputs,
    kinds: Sequence[str],
    max_frames: int | None = None,
    smooth: float = 0.0,
) -> dict[str, Any]:
    """Segment the frames of a video, or of a camera until it ends, Ctrl-C, or `max_frames`. A video that is interrupted
    holds the frames so far.

    Args: source: as `VideoReader` takes it; open_predictor: gives a `Predictor`; kinds: of `predict_report.KINDS`;
        smooth: as `Predictor.stream` has it.
    Returns: plain values for the report.
    Raises: DataError: if the source cannot be read, or a file cannot be written. `signals.Interrupted`.
        Whatever `open_predictor` raises.
    """
    with VideoReader(source) as video:
        VideoResults(outputs, _name_of(video), video.fps, kinds, None).check(source, video.size)
        predictor, style = open_predictor()
        tally = Tally(predictor)
        results = VideoResults(outputs, _name_of(video), video.fps, kinds, style)
        total = min((n for n in (video.frame_count, max_frames) if n is not None), default=None)
        pace, start = Pace(video.fps), time.perf_counter()
        frames = itertools.islice(video, max_frames)
        ahead = 1 if video.live else 2
        stream = predictor.stream(frames, with_confidence="confidence" in kinds, ahead=ahead, smooth=smooth)
        # The first signal ends the reading; what was read is still segmented and written. A second Ctrl-C does not wait
        # for that, as it must not where the camera has stopped answering.
        try:
            with (
                signals.telling(video.stop) as came,
                results,
                contextlib.closing(overlapped(results.draw, stream)) as drawn,
            ):
                for found, images in progress.bar(drawn, total=total, desc="predict", unit="frame"):
                    results.write(found, images, pace.times(time.perf_counter() - start) if video.live else 1)
                    tally.add(found.mask)
                number = came()
                if number is not None and not (video.live and number == signal.SIGINT):
                    raise signals.Interrupted(number)
        except KeyboardInterrupt as interrupt:
            raise signals.Interrupted.of(interrupt).saying(_what_is_finished(results, video, total)) from None
        seconds = time.perf_counter() - start
    missing = 0 if max_frames or not video.frame_count else max(0, video.frame_count - results.frames)
    return {
        "frames": results.frames,
        **report(predictor, tally, outputs.folder, results.frames, seconds),
        "outputs": results.paths,
        "video_fps": round(video.fps, 3),
        "size": list(video.size),
        "frames_missing": missing,
        "smooth": smooth,
    }


def _what_is_finished(results: VideoResults, video: VideoReader, total: int | None) -> str:
    if not results.frames:
        return "nothing was written; run the command again."
    frames = f"{results.frames}" if total is None else f"{results.frames} of {total}"
    again = "" if video.live else "; run the command again for the whole video"
    return f"{frames} frames are in {', '.join(results.paths.values())}{again}."


def _name_of(video: VideoReader) -> str:
    """What the results of a video are called, with its own extension where that can be written."""
    if isinstance(video.source, int):
        return f"camera{video.source}.mp4"
    if video.live:
        return "stream.mp4"
    name, extension = os.path.splitext(os.path.basename(video.source))
    return name + (extension.lower() if extension.lower() in CODECS else ".mp4")

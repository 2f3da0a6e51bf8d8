"""Videos and cameras, in and out, through OpenCV, and out through PyAV where that is installed.

with VideoReader("drive.mp4") as video, VideoWriter("overlay.mp4", video.fps) as out:
    for frame, mask, _, _ in predictor.stream(video):
        out.write(overlay(frame, mask, predictor.label_set.palette))
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import signals
from ppliteseg_paddle.deploy import h264
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.files import abandoned, claim, release

# Where a file or camera does not say how many frames a second it has.
DEFAULT_FPS = 25.0
# How long closing waits for a frame that is being read. A camera that has stopped answering must not keep a program
# from ending.
_PATIENCE_SECONDS = 5.0
# Extension of a written video -> its codec: what OpenCV's wheels can encode without further libraries. With PyAV most
# are H.264.
CODECS: dict[str, str] = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class VideoReader:
    """The frames of a video file or a camera: iterate over it, once.

    Args: source: a path; or a camera's number, or the address of a stream ("rtsp://...").
    Attributes: `source`; `live`, whether it is a camera or stream; `fps`, frames a second as the source says;
        `frame_count` as the file says, None where it is not known; `frames_read`; `size`, (width, height) of the first
        frame.
    Raises: DataError: if it cannot be opened, or holds no frame that can be decoded.
    """

    def __init__(self, source: str | os.PathLike[str] | int):
        self.source: str | int = source if isinstance(source, int) else os.fspath(source)
        self.live = isinstance(self.source, int) or "://" in self.source
        self.name = f"camera {source}" if self.live else f"video {self.source}"
        self._lock = threading.Lock()  # frames are read in one thread, and the file may be closed in another
        with _quiet_ffmpeg():
            self._capture = self._open()
        self._first: NDArray[np.uint8] | None
        found, self._first = self._capture.read()
        if not found or self._first is None:
            self.close()
            why = "is another program using it?" if self.live else "it is damaged, cut off, or of an unknown codec."
            raise DataError(f"{self.name} opens, but gives no frame: {why}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count: int | None = int(count) if not self.live and 0 < count < 1e9 else None
        self.size: tuple[int, int] = (self._first.shape[1], self._first.shape[0])
        self.frames_read = 0
        self._stopped = False

    def _open(self) -> cv2.VideoCapture:
        if self.live:
            capture = cv2.VideoCapture(self.source)
            if not capture.isOpened():
                raise DataError(
                    f"{self.name} cannot be opened: it is not connected, another program uses it, or this user may not."
                )
            return capture
        if not os.path.isfile(self.source):
            why = "is a folder; give a file" if os.path.isdir(self.source) else "does not exist"
            raise DataError(f"{self.name} {why}.")
        # FFmpeg where OpenCV has it, which its wheels do: the others are tried in turn and each complains on stderr.
        ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
        capture = cv2.VideoCapture(self.source, cv2.CAP_FFMPEG if ffmpeg else cv2.CAP_ANY)
        if not capture.isOpened():
            raise DataError(
                f"{self.name} cannot be opened: it is damaged, no video, or in a format that this OpenCV does not read."
            )
        return capture

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yields (H, W, 3) uint8, BGR. A video's rotation is applied."""
        frame, self._first = self._first, None
        while frame is not None:
            self.frames_read += 1
            yield frame
            if self._stopped:
                return
            with self._lock:
                found, frame = self._capture.read()
            if not found:
                return

    def stop(self) -> None:
        """End the iteration after the frame that is being read. May be called from any thread, and from a signal
        handler."""
        self._stopped = True

    def close(self) -> None:
        if self._lock.acquire(timeout=_PATIENCE_SECONDS):
            try:
                self._capture.release()
            finally:
                self._lock.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def _quiet_ffmpeg() -> Iterator[None]:
    """Keep FFmpeg inside OpenCV from writing lines of its own about damaged files: the errors here say what is wrong.

    OpenCV reads the variable once, when it opens the first video. A value that the user has set is respected.
    """
    name = "OPENCV_FFMPEG_LOGLEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "-8"
    try:
        yield
    finally:
        os.environ.pop(name, None)


class _Form(NamedTuple):
    extension: str
    codec: str
    api: int


class VideoWriter:
    """Writes frames as a video file, which appears when it is complete: on leaving the `with` block without an error.
    After a KeyboardInterrupt it holds the frames so far; that does not replace an earlier file at `path`, but is
    called NAME.interrupted.EXT.

    Args: path: its extension says the format (`CODECS`); fps: frames a second; remember: called with the path and the
        finished file just before that takes its place.
    Attributes: `path`, which may end in .avi where another extension was asked for (see `_form_for`); `frames`, how
        many were written.
    Raises: DataError: for an unknown extension, frames of different sizes, or a file that cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], fps: float, remember: Callable[[str, str], None] = lambda path, file: None
    ):
        self.path, self.fps, self.frames, self._remember = os.fspath(path), fps, 0, remember
        extension = os.path.splitext(self.path)[1].lower()
        if extension not in CODECS:
            raise DataError(f"cannot write the video {self.path}: give a name that ends in one of {', '.join(CODECS)}.")
        self._temporary: str | None = None
        self._claimed: int | None = None
        self._writer: Any = None  # cv2.VideoWriter
        self._size: tuple[int, int] = (0, 0)

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add a frame. Shape: (H, W, 3) uint8, BGR; the first one's size is the video's."""
        size = (frame.shape[1], frame.shape[0])
        if self._writer is None:
            self._start(size)
        if size != self._size:
            raise DataError(
                "cannot write the video {}: frame {} has {}x{} pixels, and those before have {}x{}.".format(
                    self.path, self.frames, *size, *self._size
                )
            )
        self._writer.write(np.ascontiguousarray(frame))
        self.frames += 1

    def path_for(self, size: tuple[int, int]) -> str:
        """The path of a video of frames of that (width, height)."""
        stem, extension = os.path.splitext(self.path)
        return stem + _form_for(extension.lower(), size).extension

    def _start(self, size: tuple[int, int]) -> None:
        form = _form_for(os.path.splitext(self.path)[1].lower(), size)
        self.path = self.path_for(size)
        folder = os.path.dirname(os.path.abspath(self.path))
        try:
            os.makedirs(folder, exist_ok=True)
            prefix = f".{os.path.splitext(os.path.basename(self.path))[0]}.writing-"
            for left in abandoned(folder, f"{re.escape(prefix)}[a-z0-9_]{{8}}{re.escape(form.extension)}"):
                os.remove(left)
            handle, self._temporary = tempfile.mkstemp(prefix=prefix, suffix=form.extension, dir=folder)
            os.close(handle)
            self._claimed = claim(self._temporary)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}.") from None
        self._size = size
        if form.codec == h264.CODEC:
            self._writer = h264.H264Writer(self._temporary, self.fps, size)
            return
        with _quiet_ffmpeg():
            self._writer = cv2.VideoWriter(
                self._temporary, form.api, cv2.VideoWriter_fourcc(*form.codec), float(self.fps), size
            )
        if not self._writer.isOpened():
            raise DataError(
                f"cannot write the video {self.path}: this OpenCV has no encoder '{form.codec}'; give a name that ends "
                "in .avi."
            )

    def finish(self) -> None:
        """Close the file, see that it is complete, and put it in its place.

        Raises: DataError: if no frame was written, or the file does not hold them all, as on a full disk.
        """
        if self._writer is None or self._temporary is None:
            raise DataError(f"cannot write the video {self.path}: there is no frame.")
        writer, self._writer = self._writer, None
        writer.release()
        with VideoReader(self._temporary) as written:
            # One more than were counted, where a signal came between writing and counting.
            if written.size != self._size or (written.frame_count or self.frames) < self.frames:
                raise DataError(
                    f"the video {self.path} could not be written completely ({written.frame_count} of {self.frames} "
                    f"frames of {self._size[0]}x{self._size[1]} pixels): is the disk full?"
                )
        try:
            os.chmod(self._temporary, 0o644)
            self._remember(self.path, self._temporary)
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}.") from None
        self._temporary = None
        self._release()

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            with contextlib.suppress(DataError):  # the file goes
                self._writer.release()
            self._writer = None
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._temporary)
            self._temporary = None
        self._release()

    def _release(self) -> None:
        release(self._claimed)
        self._claimed = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with signals.held():
            try:
                if kind is None:
                    self.finish()
                elif issubclass(kind, KeyboardInterrupt) and self.frames:
                    self.path = _beside(self.path)
                    self.finish()
            finally:
                self.discard()


def _beside(path: str) -> str:
    """The path, or where a file is, NAME.interrupted.EXT with a number that is free."""
    stem, extension = os.path.splitext(path)
    further = (f"{stem}.interrupted{number:d}{extension}" for number in itertools.count(2))
    names = itertools.chain([path, f"{stem}.interrupted{extension}"], further)
    return next(name for name in names if not os.path.lexists(name))


def _form_for(extension: str, size: tuple[int, int]) -> _Form:
    """H.264 where PyAV is installed and the format holds it, which wants even sides.

    Where a side is odd, OpenCV's FFmpeg drops a row or column without a word. OpenCV's own encoder does not: it
    writes .avi, with an integer number of frames a second."""
    if size[0] % 2 or size[1] % 2:
        return _Form(".avi", "MJPG", cv2.CAP_OPENCV_MJPEG)
    if extension in h264.EXTENSIONS and h264.available():
        return _Form(extension, h264.CODEC, cv2.CAP_ANY)
    return _Form(extension, CODECS[extension], cv2.CAP_ANY)


class Pace:
    """Keeps a recording in real time. A camera gives more frames than a slow model takes: those that it does take are
    repeated.

    Args: fps: frames a second of the recording.
    """

    def __init__(self, fps: float):
        self._fps, self._written = fps, 0

    def times(self, seconds: float) -> int:
        """How often to write the frame that is ready `seconds` after the start; at least once."""
        times = max(1, round(seconds * self._fps) - self._written)
        self._written += times
        return times

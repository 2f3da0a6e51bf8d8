import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from stand_in import image

from ppliteseg_paddle.deploy import h264
from ppliteseg_paddle.deploy.video import CODECS, DEFAULT_FPS, Pace, VideoReader, VideoWriter
from ppliteseg_paddle.errors import DataError


def write_video(path, count=10, size=(48, 64), fps=12.0):
    with VideoWriter(path, fps) as out:
        for i in range(count):
            out.write(image(*size, seed=i))
    return out.path


@pytest.mark.parametrize("by_pyav", [True, False])
@pytest.mark.parametrize("ending", CODECS)
def test_a_written_video_is_read_again_with_its_frames_size_and_rate(tmp_path, ending, by_pyav, monkeypatch):
    if not by_pyav:
        monkeypatch.setattr(h264, "available", lambda: False)
    path = write_video(tmp_path / ("a" + ending))
    assert path == str(tmp_path / ("a" + ending))
    with VideoReader(path) as video:
        frames = list(video)
        assert (len(frames), video.frame_count, video.frames_read) == (10, 10, 10)
        assert video.size == (64, 48) and abs(video.fps - 12.0) < 0.01 and not video.live
    for i, frame in enumerate(frames):
        assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - image(seed=i)).mean() < 12  # codecs lose something, but it is this frame
    assert [each.name for each in tmp_path.iterdir()] == ["a" + ending]


@pytest.mark.parametrize("size", [(333, 517), (48, 65), (47, 64)], ids=str)
def test_a_video_with_an_odd_side_keeps_every_pixel_in_an_avi(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", 3, size)
    assert path == str(tmp_path / "a.avi")
    with VideoReader(path) as video:
        assert [frame.shape[:2] for frame in video] == [size] * 3


def test_a_video_appears_when_it_is_complete_and_never_before(tmp_path):
    path = write_video(tmp_path / "a.avi", 3)
    before = Path(path).read_bytes()
    with pytest.raises(ZeroDivisionError), VideoWriter(path, 12) as out:
        out.write(image())
        assert Path(path).read_bytes() == before
        raise ZeroDivisionError
    assert Path(path).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.avi"]


def test_frames_of_another_size_are_refused_with_both_sizes(tmp_path):
    refused = pytest.raises(DataError, match="frame 1 has 32x20 pixels, and those before have 64x48")
    with refused, VideoWriter(tmp_path / "a.avi", 12) as out:
        out.write(image())
        out.write(image(20, 32))
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_written_is_told_on_one_line(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="ends in one of .mp4"):
        VideoWriter(tmp_path / "a.gif", 12)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write .*file"):
        write_video(tmp_path / "file" / "a.avi")
    with pytest.raises(DataError, match="there is no frame"):
        write_video(tmp_path / "a.avi", 0)
    monkeypatch.setitem(CODECS, ".avi", "????")
    with pytest.raises(DataError, match="no encoder"):
        write_video(tmp_path / "a.avi")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_video_of_which_frames_are_lost_on_the_way_is_not_left(tmp_path):
    refused = pytest.raises(DataError, match=r"could not be written completely \(3 of 4 frames of 64x48 pixels\)")
    with refused, VideoWriter(tmp_path / "a.avi", 12) as out:
        for i in range(3):
            out.write(image(seed=i))
        out.frames += 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "does not exist"),
        (b"", "cannot be opened: it is damaged, no video"),
        (b"no video" * 100, "cannot be opened"),
    ],
)
def test_a_file_that_is_no_video_is_reported_by_name(tmp_path, content, words, capfd):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="video .*a.mp4 " + words):
        VideoReader(path)
    assert capfd.readouterr().out == ""


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        VideoReader(tmp_path)


def test_a_cut_video_gives_the_frames_that_it_has(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    os.truncate(path, os.path.getsize(path) // 2)
    with VideoReader(path) as video:
        count = len(list(video))
        assert 0 < count < video.frame_count == 20


def test_a_camera_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: cv2_capture())
    with pytest.raises(DataError, match="camera 7 cannot be opened: it is not connected, another program uses it"):
        VideoReader(7)


def cv2_capture():
    class Closed:
        def isOpened(self):
            return False

    return Closed()


def test_a_camera_has_no_end_and_a_rate_even_if_it_says_none(monkeypatch):
    class Camera:
        def isOpened(self):
            return True

        def read(self):
            return True, image()

        def get(self, what):
            return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}[what]

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera())
    with VideoReader(0) as video:
        assert video.live and video.fps == DEFAULT_FPS and video.frame_count is None and video.name == "camera 0"
        assert [frame.shape for frame, _ in zip(video, range(3))] == [(48, 64, 3)] * 3


def test_a_closed_video_ends(tmp_path):
    with VideoReader(write_video(tmp_path / "a.avi")) as video:
        frames = iter(video)
        next(frames)
    assert list(frames) == []


def test_a_recording_keeps_real_time_where_the_model_is_slower_than_the_camera():
    pace = Pace(10)
    assert [pace.times(seconds) for seconds in (0.1, 0.2, 0.5, 1.0)] == [1, 1, 3, 5]
    assert [pace.times(seconds) for seconds in (1.0, 1.1, 1.25)] == [1, 1, 1]  # a fast one: nothing is dropped


def test_importing_and_reading_leave_the_environment_alone_and_damaged_files_print_nothing(tmp_path):
    write_video(tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    code = """
import os, sys
import cv2  # sets variables of its own
before = dict(os.environ)
from ppliteseg_paddle.deploy import h264
from ppliteseg_paddle.deploy.video import VideoReader
from ppliteseg_paddle.errors import DataError
try:
    VideoReader(sys.argv[1])
except DataError:
    assert dict(os.environ) == before
else:
    sys.exit("the file was not refused")
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "cut.mp4"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind: what is left stays there")
def test_what_a_killed_process_has_left_of_a_video_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "a.avi"
    (tmp_path / ".a.writing-mine.avi").write_bytes(b"of the user")
    with VideoWriter(path, 12) as living:
        living.write(image())
        code = (
            "import os, signal, sys, numpy\n"
            "from ppliteseg_paddle.deploy.video import VideoWriter\n"
            "with VideoWriter(sys.argv[1], 12) as out:\n"
            "    out.write(numpy.zeros((48, 64, 3), numpy.uint8))\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob(".a.writing-????????.avi"))) == 2
        with VideoWriter(path, 12) as later:
            later.write(image())
            assert len(list(tmp_path.glob(".a.writing-????????.avi"))) == 2  # this one, and the living one
        living.write(image())
    with VideoReader(path) as video:
        assert len(list(video)) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == [".a.writing-mine.avi", "a.avi"]

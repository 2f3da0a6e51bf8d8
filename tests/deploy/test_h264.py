"""Videos that browsers play: H.264 by PyAV."""

import sys

import av
import numpy as np
import pytest
from stand_in import image

from ppliteseg_paddle.deploy import h264
from ppliteseg_paddle.deploy.video import VideoReader, VideoWriter
from ppliteseg_paddle.errors import DataError


def written(path, fps=12.0, count=6):
    with VideoWriter(path, fps) as out:
        for i in range(count):
            out.write(image(48, 64, seed=i))
    return out.path


def test_what_is_written_is_what_browsers_play_and_its_index_comes_first(tmp_path):
    path = written(tmp_path / "a.mp4", 30000 / 1001)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (64, 48, 6)
        assert float(stream.average_rate) == pytest.approx(30000 / 1001, abs=1e-6)
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
    for i, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - image(48, 64, seed=i)).mean() < 12
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_the_same_in_matroska_and_motion_jpeg_in_avi(tmp_path):
    names = {}
    for ending in (".mkv", ".mov", ".avi"):
        with av.open(written(tmp_path / f"a{ending}")) as container:
            names[ending] = container.streams.video[0].codec_context.name
    assert names == {".mkv": "h264", ".mov": "h264", ".avi": "mjpeg"}


def test_without_pyav_opencv_writes(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert not h264.available()
    path = written(tmp_path / "a.mp4")
    monkeypatch.undo()
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_a_build_of_pyav_without_the_encoder_is_not_taken(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert not h264.available()


def test_what_pyav_cannot_write_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *_):
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(h264.H264Writer, "_mux", lambda self, packets: [full(packet) for packet in packets])
    refused = pytest.raises(DataError, match="the video .* could not be written: .*No space left on device")
    with refused, VideoWriter(tmp_path / "a.mp4", 12) as out:
        for i in range(200):  # the encoder holds some back
            out.write(image(48, 64, seed=i))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_plays(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", 12) as out:
        for i in range(4):
            out.write(image(48, 64, seed=i))
        raise KeyboardInterrupt
    with VideoReader(tmp_path / "a.mp4") as video:
        assert len(list(video)) == 4

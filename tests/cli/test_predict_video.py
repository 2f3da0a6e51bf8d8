"""`ppliteseg predict` on videos and cameras."""

import _thread
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from commands import files_in, run_json, values_of, write_photo, write_video
from exported import photograph, small_folder

from ppliteseg_paddle import Predictor, signals
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy import h264, results
from ppliteseg_paddle.deploy.video import VideoReader
from ppliteseg_paddle.visual.draw import overlay


@pytest.mark.parametrize("name", ["drive.mp4", "drive.avi"])
def test_a_video_goes_in_and_an_overlay_video_of_its_frames_and_size_comes_out(tmp_path, capsys, name):
    path = write_video(tmp_path / name)
    status, result = run_json(
        capsys, "predict", "--model_dir", small_folder(), "--image_path", path, "--save_dir", tmp_path / "out"
    )
    assert status == 0 and files_in(tmp_path / "out") == ["overlay/" + name]
    assert (result["frames"], result["size"], result["video_fps"], result["frames_missing"]) == (12, [96, 64], 12.0, 0)
    assert result["fps"] > 0 and result["outputs"] == {"overlay": str(tmp_path / "out" / "overlay" / name)}
    predictor = Predictor(small_folder())
    with VideoReader(path) as given, VideoReader(tmp_path / "out" / "overlay" / name) as written:
        assert (written.size, written.frame_count, written.fps) == (given.size, given.frame_count, given.fps)
        pairs = list(zip(given, written))
    assert len(pairs) == 12
    for frame, picture in pairs:
        expected = overlay(frame, predictor.predict(frame), predictor.label_set.palette)
        assert np.abs(picture.astype(int) - expected).mean() < 12 < np.abs(picture.astype(int) - frame).mean()


@pytest.mark.parametrize("height, width, size", [(64, 96, (48, 32)), (47, 65, (33, 23))], ids=["even", "odd"])
def test_an_overlay_video_is_half_the_size_by_a_flag(tmp_path, capsys, height, width, size):
    path = write_video(tmp_path / "drive.avi", 3, height, width)
    command = ["predict", "--model_dir", small_folder(), "--image_path", path, "--save_dir", tmp_path / "out"]
    status, result = run_json(capsys, *command, "--overlay_scale", 0.5, "--outputs", "overlay", "color")
    assert status == 0 and result["size"] == [width, height]
    for kind, expected in (("overlay", size), ("color", (width, height))):
        with VideoReader(result["outputs"][kind]) as written:
            assert (written.size, written.frame_count) == (expected, 3)


def test_the_overlays_of_a_video_have_no_image_format(tmp_path, capsys):
    path = write_video(tmp_path / "drive.avi", 3)
    assert main(["predict", "--model_dir", small_folder(), "--image_path", path, "--overlay_format", "jpg"]) == 2
    assert "--overlay_format is for images, not for videos." in capsys.readouterr().err


def test_every_output_of_a_video_has_its_frames(tmp_path, capsys):
    path = write_video(tmp_path / "drive.avi", 5, 47, 65)
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        small_folder(),
        "--image_path",
        path,
        "--save_dir",
        tmp_path / "out",
        "--outputs",
        "mask",
        "overlay",
        "color",
        "confidence",
        "--batch_size",
        2,
        "--streams",
        2,
    )
    masks = [f"mask/drive/{i:06d}.png" for i in range(5)]
    assert status == 0 and files_in(tmp_path / "out") == ["color/drive.avi", "confidence/drive.avi"] + masks + [
        "overlay/drive.avi"
    ]
    assert (result["batch_size"], result["streams"]) == (2, 2)
    with VideoReader(path) as video:
        for frame, mask in zip(video, masks):
            assert np.mean(values_of(tmp_path / "out" / mask)[0] != Predictor(small_folder()).predict(frame)) < 0.001
    for kind in ("overlay", "color", "confidence"):
        with VideoReader(tmp_path / "out" / kind / "drive.avi") as video:
            assert video.size == (65, 47) and len(list(video)) == 5


def test_a_video_may_be_cut_short_by_request_and_is_reported_if_it_is_damaged(tmp_path, capsys):
    path = write_video(tmp_path / "drive.avi", 20)
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        small_folder(),
        "--image_path",
        path,
        "--save_dir",
        tmp_path / "out",
        "--max_frames",
        3,
    )
    assert status == 0 and result["frames"] == 3 and result["frames_missing"] == 0
    os.truncate(path, os.path.getsize(path) // 2)
    assert (
        main(["predict", "--model_dir", small_folder(), "--image_path", path, "--save_dir", str(tmp_path / "out")]) == 0
    )
    assert "more frames, which could not be decoded: it may be cut off" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, share, windows",
    [([], 0.65, {}), ([0.8], 0.8, {"is_slide": True, "crop_size": (64, 48)})],
    ids=["whole", "windows"],
)
def test_smooth_writes_the_masks_of_a_smoothed_stream_and_tells_its_share(tmp_path, capsys, flags, share, windows):
    path = write_video(tmp_path / "drive.avi", 4)
    command = ["predict", "--model_dir", small_folder(), "--image_path", path, "--outputs", "mask"]
    command += ["--is_slide", "--crop_size", 64, 48] if windows else []
    status, result = run_json(capsys, *command, "--save_dir", tmp_path / "out", "--smooth", *flags)
    assert (status, result["frames"], result["smooth"]) == (0, 4, share)
    assert run_json(capsys, *command, "--save_dir", tmp_path / "plain")[1]["smooth"] == 0
    names = [f"mask/drive/{i:06d}.png" for i in range(4)]
    found, plain = ([values_of(tmp_path / where / name)[0] for name in names] for where in ("out", "plain"))
    with VideoReader(path) as video:
        predictor = Predictor(small_folder(), **windows)
        expected = [each.mask for each in predictor.stream(video, smooth=share)]
    assert np.mean(np.stack(found) != np.stack(expected)) < 1e-3
    assert np.array_equal(found[0], plain[0]) and not np.array_equal(np.stack(found), np.stack(plain))


@pytest.mark.parametrize(
    "source, flags, said",
    [
        ("drive.avi", ["--smooth", "1"], "smooth is 1.0; give a number from 0 (off) to below 1, such as 0.65."),
        ("photo.jpg", ["--smooth"], "--smooth is for videos and cameras."),
    ],
)
def test_smooth_is_refused_in_one_line_before_anything_is_written(tmp_path, capsys, source, flags, said):
    write_video(tmp_path / "drive.avi", 2)
    write_photo(tmp_path / "photo.jpg")
    where = ["--image_path", str(tmp_path / source), "--save_dir", str(tmp_path / "out")]
    assert main(["predict", "--model_dir", small_folder(), *where, *flags]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {said}"] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_video_plays_and_the_line_says_what_it_holds(tmp_path, capsys, monkeypatch, number, status):
    path, write = write_video(tmp_path / "drive.mp4", 40), results.VideoResults.write

    def interrupted(self, *arguments):
        write(self, *arguments)
        if self.frames == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(results.VideoResults, "write", interrupted)
    command = ["predict", "--model_dir", small_folder(), "--image_path", path, "--save_dir", str(tmp_path / "out")]
    assert main(command) == status
    target = str(tmp_path / "out" / "overlay" / "drive.mp4")
    with VideoReader(target) as video:
        frames = len(list(video))
    assert 4 <= frames < 40
    finished = f"{frames} of 40 frames are in {target}; run the command again for the whole video."
    said = f"interrupted by {number.name}: {finished}"
    assert capsys.readouterr().err.splitlines()[-1] == said
    monkeypatch.undo()
    assert main(command) == 0  # it is replaced by the whole one, and by another interrupted one it is not
    monkeypatch.setattr(results.VideoResults, "write", interrupted)
    assert main(command) == status
    assert files_in(tmp_path / "out") == ["overlay/drive.interrupted.mp4", "overlay/drive.mp4"]


def test_a_video_that_is_interrupted_before_its_first_frame_leaves_nothing(tmp_path, capsys, monkeypatch):
    path = write_video(tmp_path / "drive.mp4")
    monkeypatch.setattr(results.VideoResults, "write", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    command = ["predict", "--model_dir", small_folder(), "--image_path", path, "--save_dir", str(tmp_path / "out")]
    assert main(command) == 143
    assert files_in(tmp_path / "out") == []


class Camera:
    """Gives frames without end, and Ctrl-C after the sixth."""

    def __init__(self, number):
        assert number == 2
        self.count = 0

    def isOpened(self):
        return True

    def read(self):
        self.count += 1
        if self.count == 6:
            _thread.interrupt_main()
        return True, photograph(64, 96)

    def get(self, what):
        return 10.0 if what == cv2.CAP_PROP_FPS else 0.0

    def release(self):
        pass


def test_a_camera_is_recorded_until_ctrl_c(tmp_path, capsys, monkeypatch):
    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source, *rest: real(source, *rest) if isinstance(source, str) else Camera(source)
    )
    status, result = run_json(
        capsys, "predict", "--model_dir", small_folder(), "--camera", 2, "--save_dir", tmp_path / "out"
    )
    assert status == 0 and files_in(tmp_path / "out") == ["overlay/camera2.mp4"]
    assert (
        6 <= result["frames"] <= 18
    )  # all that were read: six, and those that the reader took while Ctrl-C was under way
    with VideoReader(tmp_path / "out" / "overlay" / "camera2.mp4") as video:
        assert video.fps == 10.0 and video.frame_count >= result["frames"]


def test_a_second_ctrl_c_ends_a_camera_that_has_stopped_answering(tmp_path, capsys, monkeypatch):
    h264.available()
    written, write = threading.Event(), results.VideoResults.write

    def noted(self, *arguments):
        write(self, *arguments)
        written.set()

    monkeypatch.setattr(results.VideoResults, "write", noted)

    class Silent(Camera):
        def read(self):
            if self.count == 3:
                assert written.wait(60)  # frames are read ahead of those that are written
                _thread.interrupt_main()
                deadline = time.monotonic() + 20
                while signals.came() is None and time.monotonic() < deadline:  # until the first one has been heard
                    time.sleep(0.01)
                _thread.interrupt_main()
                time.sleep(1)
            self.count += 1
            return True, photograph(64, 96)

    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source, *rest: real(source, *rest) if isinstance(source, str) else Silent(source)
    )
    assert main(["predict", "--model_dir", small_folder(), "--camera", "2", "--save_dir", str(tmp_path / "out")]) == 130
    assert "frames are in" in capsys.readouterr().err.splitlines()[-1]
    with VideoReader(tmp_path / "out" / "overlay" / "camera2.mp4") as video:
        assert len(list(video)) >= 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""`predict --image_path` with an http(s) address."""

from pathlib import Path

import pytest
from commands import files_in, run_json, values_of, write_photo, write_video
from exported import small_folder
from weight_server import file_server

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main


def predict(capsys, address, out):
    return run_json(
        capsys, "predict", "--model_dir", small_folder("argmax"), "--image_path", address, "--save_dir", out
    )


@pytest.mark.parametrize(
    ("path", "name"), [("/a/street.png?size=2", "street"), ("/snapshot", "snapshot"), ("/", "image")]
)
def test_an_image_at_an_address_is_segmented_under_its_name(tmp_path, capsys, path, name):
    photo = write_photo(tmp_path / "photo.png")
    with file_server(Path(photo).read_bytes()) as server:
        status, result = predict(capsys, server.url + path, tmp_path / "out")
    assert status == 0 and result["images"] == 1
    assert files_in(tmp_path / "out") == [f"mask/{name}.png", f"overlay/{name}.png"]
    expected = Predictor(small_folder("argmax")).predict(photo)
    assert (values_of(tmp_path / "out" / "mask" / f"{name}.png")[0] == expected).all()


def test_a_video_at_an_address_is_segmented(tmp_path, capsys):
    video = write_video(tmp_path / "drive.mp4", count=3)
    with file_server(Path(video).read_bytes()) as server:
        status, result = predict(capsys, server.url + "/drive.mp4", tmp_path / "out")
    assert status == 0 and result["frames"] == 3 and files_in(tmp_path / "out") == ["overlay/drive.mp4"]


def test_an_address_that_does_not_answer_is_one_line(tmp_path, capsys):
    with file_server(b"") as server:
        arguments = ["predict", "--model_dir", small_folder("argmax"), "--save_dir", str(tmp_path / "out")]
        assert main([*arguments, "--image_path", server.url + "/absent"]) == 2
        error = capsys.readouterr().err
    assert f"{server.url}/absent: the server answers 404" in error and error.count("error:") == 1
    assert not (tmp_path / "out").exists()

"""The benchmark of start-ups: a process each time."""

import cv2
import pytest
from exported import photograph, small_folder

from ppliteseg_paddle.benchmark.studies import startup
from ppliteseg_paddle.deploy import compiled
from ppliteseg_paddle.errors import PPLiteSegError


def test_each_start_is_a_process_that_opens_the_export_and_segments(tmp_path):
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, photograph(64, 96))
    options = {"image": path, "model_dir": small_folder("argmax"), "backend": "paddle", "device": "cpu"}
    stages = startup.measure({"paddle": options}, threads=1, repeats=1)["paddle"]
    assert stages["open"]["median_ms"] > 0 and stages["first_mask"]["median_ms"] > 0
    assert stages["total"]["median_ms"] == pytest.approx(
        stages["open"]["median_ms"] + stages["first_mask"]["median_ms"]
    )


def test_a_start_takes_no_compiled_model_that_was_kept_unless_it_may(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setenv("PPLITESEG_COMPILED", "1")
    monkeypatch.setattr(startup, "Predictor", lambda **options: seen.append(compiled.enabled()) or Segments())
    for kept in (True, False):
        startup.start("x.png", kept=kept)
    assert seen == [True, False]


class Segments:
    def predict(self, image):
        return image


def test_an_export_that_is_not_there_is_named(tmp_path):
    options = {"image": "x.png", "model_dir": str(tmp_path / "absent"), "backend": "paddle", "device": "cpu"}
    with pytest.raises(PPLiteSegError, match="gone could not do a start: .*absent"):
        startup.measure({"gone": options}, threads=1, repeats=1)

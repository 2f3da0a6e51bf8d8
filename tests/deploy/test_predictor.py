import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest
from exported import LABELS, eager, exported_predictor, few_ties, model, photograph, small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError

NEAR_TIE = 1e-5  # of the largest logit: float sums in another order


def assert_same_masks(predictor, height, width):
    """Export and model give the same class ids, but where two logits are as good as equal."""
    from ppliteseg_paddle.export.compare import Original, compare

    image = photograph(height, width)
    found, expected = predictor.predict(image), eager().predict(image)
    assert found.shape == expected.shape == (height, width) and found.dtype == expected.dtype == np.uint8
    assert len(np.unique(expected)) >= 8  # a mask in which something can go wrong
    check = compare(predictor, Original(model()), [image])
    assert check["differing_pixels"] == np.mean(found != expected) <= few_ties(found.size)
    assert check["largest_margin"] <= NEAR_TIE


@pytest.mark.slow
@pytest.mark.parametrize("size", [(360, 480), (333, 517), (64, 64), (97, 211)], ids=str)
def test_one_dynamic_export_equals_the_model_at_every_size(size):
    assert_same_masks(exported_predictor(), *size)


@pytest.mark.slow
def test_an_image_of_a_few_pixels_is_segmented_too():
    image = photograph(33, 31)
    assert np.mean(exported_predictor().predict(image) != eager().predict(image)) < 0.005
    assert_same_masks(exported_predictor(), 96, 128)  # and the next one of an ordinary size


def test_a_path_and_its_pixels_give_one_mask(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), photograph(96, 128))
    predictor = Predictor(small_folder("argmax"))
    expected = predictor.predict(photograph(96, 128))
    assert np.array_equal(predictor.predict(path), expected)
    assert np.array_equal(predictor.predict(str(path)), expected)


def test_auto_takes_the_first_backend_that_works_and_names_it():
    predictor = Predictor(small_folder("argmax"))
    assert predictor.backend.name == "paddle" and predictor.backend.device in ("cpu", "gpu:0")


def test_auto_skips_a_backend_that_fails_and_says_so(monkeypatch, caplog):
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES

    def broken(artifact, options):
        raise ArtifactError("does not run here")

    monkeypatch.setitem(RUNTIMES, "paddle", dataclasses.replace(RUNTIMES["paddle"], open=broken))
    with caplog.at_level("WARNING", logger="ppliteseg_paddle"):
        predictor = Predictor(small_folder("argmax"))
    assert predictor.backend.name == "paddle-native"
    assert "'paddle' is skipped for 'paddle-native': does not run here" in caplog.text


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"backend": "padle"}, ConfigError, "unknown backend 'padle'. Did you mean 'paddle'"),
        ({"device": "tpu"}, ConfigError, "device 'tpu'.*cpu, gpu or gpu:N"),
        ({"device": "gpu:"}, ConfigError, "device 'gpu:'"),
        ({"num_threads": 0}, ConfigError, "num_threads is 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        Predictor(small_folder("argmax"), **options)


def test_a_gpu_that_is_not_there_is_refused():
    import paddle

    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    with pytest.raises((ConfigError, DependencyError), match=f"gpu:{count:d}"):
        Predictor(small_folder("argmax"), device=f"gpu:{count:d}")


def test_a_missing_runtime_is_named_with_its_install_command(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "paddle" else find(name, *rest)
    )
    for backend in ("paddle", "auto"):
        with pytest.raises(DependencyError, match="needs paddle, which is not installed.*pip install paddlepaddle"):
            Predictor(small_folder("argmax"), backend=backend)


def test_a_graph_that_paddle_cannot_read_is_reported_with_both_versions(tmp_path):
    import os
    import shutil

    import paddle

    from ppliteseg_paddle.deploy.artifact import Artifact

    shutil.copytree(small_folder("argmax"), tmp_path / "export")
    artifact = Artifact.read(tmp_path / "export")
    (tmp_path / "export" / artifact.graphs["paddle"]["model"]).write_text('{"base_code": {"magic": "pir"}}')
    artifact.write()  # new hashes: the file is as it was meant to be, and no graph
    if artifact.graphs["paddle"]["model"].endswith(".json"):
        with pytest.raises(
            ArtifactError,
            match="Paddle %s cannot run .*inference.json, which Paddle %s wrote" % ((paddle.__version__,) * 2),
        ):
            Predictor(tmp_path / "export", backend="paddle-native")
    else:  # Paddle 2 dies of a .json, so it is refused before
        os.rename(tmp_path / "export" / "inference.pdmodel", tmp_path / "export" / "inference.json")
        artifact.graphs["paddle"]["model"] = "inference.json"
        artifact.write()
        with pytest.raises(ArtifactError, match="cannot read its format"):
            Predictor(tmp_path / "export", backend="paddle-native")


def test_a_wrong_image_is_a_data_error():
    with pytest.raises(DataError, match="does not exist"):
        Predictor(small_folder("argmax")).predict("nowhere.jpg")
    with pytest.raises(DataError, match="gray"):
        Predictor(small_folder("argmax")).predict(np.zeros((8, 8), np.uint8))


def test_deployment_loads_neither_paddleseg_nor_training_code(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(64, 96))
    code = """
import sys
import ppliteseg_paddle.deploy
assert not {"cv2", "numpy", "paddle"} & set(sys.modules), "importing deploy must cost nothing"
from ppliteseg_paddle import Predictor
import ppliteseg_paddle.deploy.backends
assert "paddle" not in sys.modules, "a runtime is loaded by its backend only"
predictor = Predictor(sys.argv[1])
assert predictor.predict(sys.argv[2]).shape == (64, 96)
assert "paddle" in sys.modules
ours = ("engine", "export", "models", "losses", "cli", "config")
rooms = ["paddleseg", "matplotlib"] + ["ppliteseg_paddle." + name for name in ours]
loaded = [name for name in sys.modules if any(name == room or name.startswith(room + ".") for room in rooms)]
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code, small_folder("argmax"), str(tmp_path / "photo.png")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # what native code prints there must not mix with a program's output
    assert LABELS.num_classes == 11

"""One backend under several threads and processes."""

import functools
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, photograph, small_folder, small_model

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import trial_input
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.export.pipeline import export_model

PACKAGES = {"onnx": ["onnx", "onnxruntime", "paddle2onnx"], "openvino": ["onnx", "openvino", "paddle2onnx"]}
FORMATS = [name for name, packages in PACKAGES.items() if all(importlib.util.find_spec(each) for each in packages)]
INSTALLED = ["paddle", "paddle-native", *({"onnx": "onnxruntime"}.get(name, name) for name in FORMATS)]


@functools.cache
def folder_of_all():
    """Folder of an export of `small_model()` in every format that can be written and run here."""
    folder = tempfile.TemporaryDirectory()
    _KEEP.append(folder)
    options = ExportOptions(LABELS, TRANSFORMS, ("paddle", *FORMATS), check_image=photograph(64, 96))
    export_model(small_model(), folder.name + "/export", options)
    return folder.name + "/export"


_KEEP = []  # removed with the process


@pytest.mark.parametrize("name", ["paddle", "paddle-native"])
def test_one_thread_runs_paddle_whoever_calls_it(name):
    """oneDNN, OpenMP and MKL keep memory for each thread that has called them."""
    artifact = Artifact.read(small_folder("argmax"))
    backend = open_backend(name, artifact, "cpu")
    seen = []
    for _ in range(3):
        with ThreadPoolExecutor(1) as thread:
            call = thread.submit(
                backend.run_in_steps, trial_input(artifact), lambda step: seen.append(threading.get_ident())
            )
            call.result()
    assert len(seen) == 9 and len(set(seen)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("backend", [name for name in INSTALLED if not name.startswith("paddle")])
def test_a_forked_process_predicts_whatever_its_parent_has_open(backend):
    code = """
import os, signal, sys, threading
import numpy as np
from ppliteseg_paddle import Predictor
image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
predictor = Predictor(sys.argv[1], sys.argv[2])
expected = predictor.predict(image)
child = os.fork()
if not child:
    signal.alarm(60)  # kills what hangs
    found = []
    thread = threading.Thread(target=lambda: found.append(predictor.predict(image)))
    thread.start()
    thread.join()
    same = [np.array_equal(mask, expected) for mask in found + [p.mask for p in predictor.stream([image] * 3)]]
    os._exit(0 if same == [True] * 4 else 1)  # as multiprocessing ends its processes
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert np.array_equal(predictor.predict(image), expected)
"""
    command = [sys.executable, "-c", code, folder_of_all(), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("backend", ["paddle", "paddle-native"])
def test_paddle_refuses_to_run_in_a_forked_process_rather_than_hang(backend):
    code = """
import os, signal, sys
import numpy as np
from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError
image = np.zeros((96, 128, 3), np.uint8)
predictor = Predictor(sys.argv[1], sys.argv[2])
child = os.fork()
if not child:
    signal.alarm(60)  # kills what hangs
    for call in (predictor.predict, lambda image: list(predictor.stream([image]))):
        try:
            call(image)
        except ArtifactError as error:
            if "does not run in a forked process" not in str(error):
                os._exit(1)
        else:
            os._exit(2)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert predictor.predict(image).shape == (96, 128)
"""
    command = [sys.executable, "-c", code, small_folder("argmax"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_pickled_predictor_opens_its_folder_again():
    predictor = Predictor(small_folder("softmax"), "paddle", unknown_below=0.3, is_slide=True, crop_size=(48, 32))
    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301 - our own
    assert again.unknown_below == 0.3 and again.windows == predictor.windows
    assert np.array_equal(again.predict(photograph(64, 96)), predictor.predict(photograph(64, 96)))


def test_a_predictor_of_an_open_backend_says_that_it_cannot_be_pickled():
    predictor = Predictor(small_folder("argmax"))
    with pytest.raises(TypeError, match="cannot be pickled: open an exported folder"):
        pickle.dumps(Predictor.of(predictor.artifact, predictor.backend))


@pytest.mark.skipif("openvino" not in FORMATS, reason="no export to OpenVINO here: Paddle2ONNX or OpenVINO is missing")
def test_a_signal_is_handled_after_predictors_of_openvino_have_gone_in_the_order_of_their_start():
    code = """
import faulthandler, os, signal, sys
faulthandler.enable()
from ppliteseg_paddle import Predictor
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
first = Predictor(sys.argv[1], "openvino")
second = Predictor(sys.argv[1], "openvino")
del first
del second
os.kill(os.getpid(), signal.SIGTERM)
print("lives on")
"""
    command = [sys.executable, "-c", code, folder_of_all()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\nlives on\n"), done.stderr

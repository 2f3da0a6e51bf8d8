"""The examples of CONTRIBUTING.md keep every contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from contributing_examples import BLOCKS, NAMES, runtime
from exported import LABELS, TRANSFORMS, photograph, small_model

ROOT = Path(__file__).resolve().parent.parent


def test_every_example_is_a_file_and_a_row():
    heads = [head for head, _ in BLOCKS]
    assert len(heads) == 8
    assert [head.startswith("row of") for head in heads] == [False, True] * 4


@pytest.mark.slow
def test_the_examples_pass_the_contract_tests():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", "pytest", "-p", "contributing_examples", "-p", "no:cacheprovider", "-vv"]
    done = subprocess.run(
        [*command, "tests/contract", "-k", " or ".join(NAMES)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output[-4000:]
    for name in NAMES:
        assert re.search(rf"\[[^]]*{name}[^]]*\] PASSED", output), f"no contract test ran for {name}"


def test_the_runtime_of_the_example_gives_the_masks_of_another(tmp_path, monkeypatch):
    from ppliteseg_paddle import Predictor
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    options = ExportOptions(label_set=LABELS, transforms=TRANSFORMS, formats=("onnx",), input_shape=(1, 3, 64, 96))
    export_model(small_model(), str(tmp_path / "export"), options)
    monkeypatch.setitem(RUNTIMES, "onnx-reference", runtime())
    masks = [
        Predictor(str(tmp_path / "export"), backend=name).predict(photograph(64, 96))
        for name in ("onnx-reference", "onnxruntime")
    ]
    assert np.mean(masks[0] != masks[1]) <= 1e-3

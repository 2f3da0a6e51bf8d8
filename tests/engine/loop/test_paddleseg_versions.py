"""Training with other versions of PaddleSeg than the installed one, each in a process of its own."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from tiny_data import make_data, values, write_config

FOLDER = os.environ.get("PPLITESEG_PADDLESEG_DIRS")
pytestmark = pytest.mark.slow
VERSIONS = sorted(path.parent.parent for path in pathlib.Path(FOLDER).glob("*/paddleseg/__init__.py")) if FOLDER else []
unpacked = pytest.mark.skipif(
    not VERSIONS, reason="PPLITESEG_PADDLESEG_DIRS names no folder that holds unpacked versions of PaddleSeg"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("versions") / "data")
    return write_config(root / "c.yml", values(root))


def train(config, save_dir, *paths, **flags):
    """The command line, with folders in front of what is installed."""
    options = {"config": config, "save_dir": save_dir, "device": "cpu", "seed": 3, "log_iters": 1, "save_interval": 2}
    command = [sys.executable, "-m", "ppliteseg_paddle", "train"]
    for name, value in {**options, **flags}.items():
        command += [f"--{name}"] + ([] if value is True else [str(value)])
    path = os.pathsep.join([*(str(path) for path in paths), *sys.path])
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def error_of(done):
    """The message of a refused command: the one line of it."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
    return lines[0]


def test_a_copy_of_paddleseg_with_a_seam_renamed_is_refused_before_anything_is_written(config, tmp_path):
    import paddleseg

    shutil.copytree(
        os.path.dirname(paddleseg.__file__), tmp_path / "paddleseg", ignore=shutil.ignore_patterns("__pycache__")
    )
    loop = tmp_path / "paddleseg" / "core" / "train.py"
    renamed = re.sub(r"\bevaluate\b", "assess", loop.read_text())
    loop.write_text(renamed.replace("import assess", "import evaluate as assess"))
    done = train(config, tmp_path / "o", tmp_path)
    assert f"PaddleSeg {paddleseg.__version__} in {tmp_path / 'paddleseg'} has another training loop" in error_of(done)
    assert "train does not look up `evaluate`" in error_of(done) and not (tmp_path / "o").exists()


@unpacked
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_another_paddleseg_trains_as_the_installed_one_or_is_refused_in_one_line(config, tmp_path, version):
    if "develop" in version.name:
        # It needs a package that training here does not.
        (tmp_path / "stub" / "skimage").mkdir(parents=True)
        (tmp_path / "stub" / "skimage" / "__init__.py").write_text("measure = morphology = None\n")
        done = train(config, tmp_path / "o", version, tmp_path / "stub")
        assert "has another training loop than this package knows: " in error_of(done)
        assert not (tmp_path / "o").exists()
        return
    records = []
    for name, paths in (("installed", []), ("other", [version])):
        done = train(config, tmp_path / name, *paths, iters=2, do_eval=True, use_ema=True)
        assert done.returncode == 0, done.stderr[-3000:]
        # Resumed without evaluations, for which PaddleSeg 2.9.1 needs more than its own loop.
        resumed = tmp_path / name / "iter_2"
        done = train(config, tmp_path / name, *paths, iters=3, resume_model=resumed)
        assert done.returncode == 0, done.stderr[-3000:]
        records.append(json.loads((tmp_path / name / "train.json").read_text()))
    told = [record["versions"].pop("paddleseg") for record in records]
    assert told[0] != told[1]
    for part, keys in (("train", ("iter", "epoch", "loss", "lr")), ("eval", ("iter", "ema", "mIoU", "class_iou"))):
        rows = [[[row[key] for key in keys] for row in record[part]] for record in records]
        assert rows[0] == rows[1] and len(rows[0]) == {"train": 3, "eval": 2}[part]

"""Every `ppliteseg` command of README and docs, run as it is printed, in a folder that holds what it names.

Configurations there are the shipped ones with two iterations of small crops on a tiny data set; names that stand for a
reader's own (`C`, `W`, `/data/camvid`) are replaced. Commands that cannot run in a test are in `NOT_RUN`, with the
reason.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import paddle  # after ours
import pytest
import yaml
from commands import write_photo, write_video
from exported import photograph
from mini_cityscapes import make_cityscapes
from small_configs import smaller
from tiny_data import make_data
from weight_server import file_server

from ppliteseg_paddle import pp_liteseg_t
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.config.source import Source, read_with_bases
from ppliteseg_paddle.weights.zoo import DEFAULT

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Part of a command -> why it is not run here.
NOT_RUN = {
    "--camera": "needs a camera",
    "serve output": "runs until a signal comes; tests/serve/test_command.py",
    "https://": "the address is an example; tests/cli/test_predict_address.py",
    "--backend tensorrt": "needs a GPU; tests/deploy/test_tensorrt.py runs it on a stand-in",
    "--max_minutes 66": "takes an hour; tests/engine/loop/test_by_time.py",
    "--max_minutes 23.5": "takes half an hour; tests/engine/loop/test_by_time.py",
    "--max_minutes 60": "takes an hour; tests/engine/loop/test_by_time.py",
    "--nproc_per_node 4": "four processes; tests/engine/loop/test_launch.py",
    "--devices 0,2": "needs GPUs; tests/cli/test_ranks_flags.py",
    "--nnodes 2": "two machines; tests/engine/loop/test_two_machines.py",
    "--precision int8": "takes minutes at 1024x512; tests/export/test_int8.py",
    "--graph plain": "takes a minute at 1024x512; tests/export/test_plain_graph.py",
    "output/paste": "300 iterations; tests/data/test_copy_paste.py trains with the transform",
    "--budget_ms": "measures for minutes at 2048x1024; tests/benchmark/test_budget_measured.py",
    "output/int8": "compares with what the command before it writes",
}
REPLACED = {
    "/data/camvid": "data/camvid",
    "C": "output/config.yml",
    "W": "model.pdparams",
    "D": "output/tensorrt",
    "CONFIG": "configs/camvid/ppliteseg_t_camvid_480x360.yml",
    "480": "24",  # scenes that README draws
}
# Less of the same: no flag of these is printed.
SHORTER = dict.fromkeys(("benchmark", "compare"), ["--repeats", "1", "--warmup", "0"])
CITYSCAPES = "cityscapes/ppliteseg_t_cityscapes_1024x512_scale0.5_160k"

EXPORTS: dict[bool, Path] = {}
_MADE = tempfile.TemporaryDirectory()  # removed with the process


class Terminal(io.StringIO):
    """Somebody who says yes to whatever is asked."""

    def isatty(self):
        return True

    def readline(self, *_):
        return "y\n"


def printed(page):
    """The commands of a page, without comments, continued lines joined."""
    for block in BLOCK.findall((ROOT / page).read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("ppliteseg", "paddleseg") and "--help" not in words:
                yield words[1:]


def reason_not_to_run(words):
    line = " ".join(words)
    return next((reason for part, reason in NOT_RUN.items() if part in line), None)


WITH_COMMANDS = [page for page in PAGES if any(reason_not_to_run(words) is None for words in printed(page))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The folder of a reader who has all that the pages speak of."""
    root = tmp_path_factory.mktemp("reader")
    _configurations(root)
    make_data(root / "data" / "camvid", train=20, val=4)
    make_cityscapes(root / "data" / "cityscapes", polygons=False)
    for folder in ("photos", "masks"):
        (root / folder).mkdir()
    for index in range(10):
        write_photo(root / "photos" / f"{index}.jpg", 96, 128)
        mask = np.zeros((96, 128), np.uint8)
        mask[index * 5 : 60, 20:90] = 1
        cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
    for name in ("photo.jpg", "street.jpg", "street.png"):
        write_photo(root / name, 96, 128)
    cv2.imwrite(str(root / "huge.png"), photograph(600, 1200))
    write_video(str(root / "drive.mp4"), count=3)
    (root / "val.txt").write_text("photo.jpg\nstreet.png\n")
    paddle.seed(0)
    for name, classes in (("model.pdparams", 11), ("cityscapes.pdparams", 19)):
        paddle.save(pp_liteseg_t(num_classes=classes).state_dict(), str(root / name))
    (root / "my_parts.py").write_text(_python_block("docs/training.md", "# my_parts.py"))
    return root


def _configurations(root):
    for path in (ROOT / "configs").rglob("*.yml"):
        if path.parent.name in ("camvid", "streetscenes", "cityscapes"):
            target = root / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            train = smaller(read_with_bases(str(path), Source(str(path)))["train_dataset"]["transforms"])
            own = {"_base_": str(path), "batch_size": 2, "iters": 2, "train_dataset": {"transforms": train}}
            target.write_text(yaml.safe_dump(own))
    camvid = root / "configs" / "camvid" / "ppliteseg_t_camvid_480x360.yml"
    (root / "my.yml").write_text(f"_base_: {camvid}\n")


def _python_block(page, first_line):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(first_line))


@pytest.fixture
def at_home(reader, tmp_path, monkeypatch):
    """The reader's folder as the working directory, with results of earlier commands."""
    home = tmp_path / "home"
    shutil.copytree(reader, home)
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setenv("PPLITESEG_CAMVID_ROOT", str(home / "data" / "camvid"))
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))
    with file_server((home / "cityscapes.pdparams").read_bytes()) as server:
        monkeypatch.setenv("PPLITESEG_MIRROR", f"https://paddleseg.bj.bcebos.com/={server.url}/")
        yield home


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_run_as_printed(page, at_home, capsys):
    failed = []
    for words in printed(page):
        if reason_not_to_run(words) is not None:
            continue
        words = [REPLACED.get(word, word.replace("/data/camvid", "data/camvid")) for word in words]
        _prepare(words)
        capsys.readouterr()
        status = main([*words, *SHORTER.get(words[0], ())])
        if status:
            failed.append(f"{' '.join(words)}: {capsys.readouterr().err.strip().splitlines()[-1]}")
    assert not failed, "\n".join(failed)


def _prepare(words):
    """Make what the command needs and no command of this page has made; remove what it makes anew."""
    values = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("--")}
    if words[0] == "train" and "--resume_model" not in values:
        shutil.rmtree(values.get("--save_dir", "output"), ignore_errors=True)
    if "streetscenes" in values.get("--config", "") and not Path("data/streetscenes").exists():
        make_data(Path("data/streetscenes"), train=20, val=4)
    if words[0] in ("val", "export", "predict"):
        _trained(Path(values.get("--config", "")).parent)
    folders = [values[flag] for flag in ("--model_dir", "--compare") if flag in values]
    for folder in folders + (words[1:3] if words[0] == "compare" else []):
        if folder != DEFAULT:
            _exported(Path(folder))
    if "--runs" in values and not Path("output/train.json").exists():
        _quietly("train", "--config", "my.yml", "--save_dir", "run", "--do_eval")
        shutil.copytree("run", "output", dirs_exist_ok=True)
    if "--results" in values:
        for name in ("latency.json", "table2.json"):
            _exported(Path("output/export"))
            _quietly(
                "benchmark", "--model_dir", "output/export", "--save_json", name, "--repeats", "2", "--warmup", "1"
            )
        _trained(Path("output"))
        _quietly(
            "val", "--config", "output/config.yml", "--model_path", "model.pdparams", "--save_json", "metrics.json"
        )
    if words[0] == "data" and words[1] in ("check", "stats"):
        _own_data(Path(values["--config"]).parent)
    if "--max_minutes" in words:
        words[words.index("--max_minutes") + 1] = "0.01"
    if words[0] == "train" and values["--config"].startswith("data/mine/"):
        _own_data(Path("data/mine"))
        text = re.sub(
            r"^(iters|batch_size): .*$", r"\1: 2", Path("data/mine/config.yml").read_text(), flags=re.MULTILINE
        )
        Path("data/mine/config.yml").write_text(text)


def _trained(folder):
    """Where a configuration and trained weights are expected, put them."""
    if folder.parts[:1] != ("output",) or (folder / "config.yml").exists():
        return
    cityscapes = folder == Path("output/t")
    name = (
        "cityscapes/ppliteseg_t_cityscapes_1024x512_scale0.5_160k"
        if cityscapes
        else "camvid/ppliteseg_t_camvid_480x360"
    )
    (folder / "best_model").mkdir(parents=True)
    (folder / "config.yml").write_text(f"_base_: {ROOT / 'configs' / name}.yml\n")
    shutil.copy("cityscapes.pdparams" if cityscapes else "model.pdparams", folder / "best_model" / "model.pdparams")


def _exported(folder):
    """An export, made once for all pages."""
    if folder.exists():
        return
    foreign = folder.parts[0] == "paddleseg"
    if foreign not in EXPORTS:
        made = Path(_MADE.name, str(foreign))
        _quietly(
            *("export", "--config", f"configs/{CITYSCAPES}.yml" if foreign else "my.yml"),
            *("--model_path", "cityscapes.pdparams" if foreign else "model.pdparams"),
            *("--save_dir", str(made), "--opts", "test_config.aug_eval=False"),
            *("--format", "paddle", *(() if foreign else ("onnx", "openvino"))),
        )
        if foreign:  # what PaddleSeg would have written
            (made / "deploy.yaml").unlink()
        EXPORTS[foreign] = made  # where it could not be made, every page is skipped
    shutil.copytree(EXPORTS[foreign], folder)


def _own_data(folder):
    if not folder.exists():
        _quietly("data", "prepare", "folder", "--images", "photos", "--masks", "masks", "--out", str(folder))


def _quietly(*words):
    assert main([*words, "--quiet"]) == 0, words

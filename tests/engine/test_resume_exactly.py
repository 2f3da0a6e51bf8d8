"""A run that is resumed equals the undisturbed one, bit for bit on a CPU."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import paddle
import pytest
import resume_worker
from ticks import Ticks
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config

pytestmark = pytest.mark.slow  # trains

HERE = os.path.dirname(resume_worker.__file__)
TIMES = ("batch_cost", "reader_cost", "ips", "elapsed", "seconds")
OURS = [
    {
        "type": "FusedAugment",
        "crop_size": [32, 32],
        "later_crop_sizes": [[0.3, [64, 32]]],
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "distort": {},
    }
]
PADDLESEGS = [
    {"type": "ResizeStepScaling", "min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_step_size": 0.25},
    {"type": "RandomPaddingCrop", "crop_size": [32, 32]},
    {"type": "RandomHorizontalFlip"},
    {"type": "RandomDistort", "brightness_range": 0.5},
    {"type": "Normalize"},
]
PASTED = [{"type": "CopyPaste", "rare_classes": [8], "prob": 0.8}]
CROPPED = [{"type": "RareClassCrop", "crop_size": [32, 32], "rare_classes": [8]}, *PADDLESEGS[2:]]


class Foreign(paddle.io.Dataset):
    """A data set of another package, read by PaddleSeg's code, with random numbers of its own."""

    def __init__(self, dataset):
        from paddleseg.transforms import Compose

        self.pairs = dataset.file_list
        self.transforms = Compose(list(dataset.transforms.transforms))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        from PIL import Image

        data = {
            "img": self.pairs[index][0],
            "label": np.array(Image.open(self.pairs[index][1])),
            "gt_fields": ["label"],
        }
        data["trans_info"] = []
        return self.transforms(data)


def with_dropout(parts):
    parts.model.register_forward_pre_hook(lambda layer, inputs: (paddle.nn.functional.dropout(inputs[0], 0.1),))


def with_a_foreign_data_set(parts):
    parts.train_dataset = Foreign(parts.train_dataset)


# 11 images: batches of 2 make epochs of 5 steps and leave one over. Evaluation and save every 3 steps: 3 and 9 are
# inside an epoch. 5 is on a border, reached by an interval of its own.
CASES = {
    "workers 0": {},
    "workers 2": {"num_workers": 2},
    "on an epoch's border": {"save_interval": 5, "resume": 5},
    "paddleseg's transforms": {"transforms": PADDLESEGS},
    "paddleseg's transforms, workers": {"transforms": PADDLESEGS, "num_workers": 2},
    "copy-paste": {"transforms": PASTED + OURS},
    "copy-paste and rare crops, workers": {"transforms": PASTED + CROPPED, "num_workers": 2},
    "foreign data set": {"transforms": PADDLESEGS, "change": with_a_foreign_data_set},
    "dropout, no seed": {"change": with_dropout, "seed": None, "num_workers": 1},
    "adamw": {"optimizer": {"type": "AdamW", "weight_decay": 0.01}},
    "accumulated, dropout": {
        "keys": {"batch_size": 1, "gradient_accumulation_steps": 2},
        "change": with_dropout,
        "num_workers": 1,
    },
    "frozen": {"keys": {"freeze": ["backbone", "seg_heads.0"]}},
    "by time": {"max_minutes": 8.5 / 60, "steps": 7},  # a fifth of the time is for what follows
    "early stop": {"best_by": "IoU:fence", "early_stop_intervals": 1, "steps": 6},  # which no label holds
}
STEPS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("resume") / "data", train=11, val=2)


def configuration(data, folder, transforms=OURS, optimizer=None, keys=None):
    content = values(data, batch_size=2, iters=STEPS, precise_bn=4, ema_decay=0.9, model=TINY_MODEL)
    content.update(keys or {})
    content["train_dataset"]["transforms"] = transforms
    content["lr_scheduler"].update(warmup_iters=4, warmup_start_lr=1e-4)
    if optimizer:
        content["optimizer"] = optimizer
    folder.mkdir(parents=True, exist_ok=True)
    return write_config(folder / "c.yml", content)


def arrays(folder):
    """Every array and number of every file that holds weights or an optimizer's state."""
    found = {}
    for path in sorted(folder.rglob("*.pd*")):
        for name, value in paddle.load(str(path), return_numpy=True).items():
            key = str(path.relative_to(folder)), name
            found[key] = np.asarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value)
    return found


def record(folder):
    content = json.loads((folder / "train.json").read_text())
    rows = {
        part: [{key: value for key, value in row.items() if key not in TIMES} for row in content[part]]
        for part in ("train", "eval")
    }
    return {**rows, "best": content["best"], "ema_best": content["ema_best"]}


def same(whole, resumed):
    """See that two runs ended alike. What was the best model before the run went back is kept, and not compared."""

    assert record(resumed) == record(whole)
    one, other = arrays(whole), {key: value for key, value in arrays(resumed).items() if "_of_iter_" not in key[0]}
    one = {key: value for key, value in one.items() if (resumed / key[0]).exists()}  # not those before the checkpoint
    assert one.keys() == other.keys() and len(one) > 200
    assert [key for key in one if one[key] != other[key]] == []


def later(names, after):
    """The checkpoints after an iteration."""
    return [name for name in names if name.startswith("iter_") and name[5:].isdigit() and int(name[5:]) > after]


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_the_undisturbed_one(data, tmp_path, monkeypatch, capsys, name):
    case = {"seed": 3, "save_interval": 3, "resume": 3, **CASES[name]}
    change, after, build_parts = case.pop("change", None), case.pop("resume"), trainer.build_parts
    steps = case.pop("steps", STEPS)
    recipe = {key: case.pop(key) for key in ("transforms", "optimizer", "keys") if key in case}
    if change is with_a_foreign_data_set:
        monkeypatch.setattr(trainer, "check_data", lambda *args, **kwargs: None)

    def changed(*args, **kwargs):
        parts = build_parts(*args, **kwargs)
        if change is not None:
            change(parts)
        return parts

    monkeypatch.setattr(trainer, "build_parts", changed)
    config = configuration(data, tmp_path, **recipe)

    def run(folder, **options):
        if "max_minutes" in case:
            Ticks(monkeypatch)
        trainer.train(
            load_config(config),
            **{"save_dir": str(tmp_path / folder), "do_eval": True, "use_ema": True, "log_iters": 2, "device": "cpu"},
            **{**case, **options},
        )

    run("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed", ignore=lambda _, names: later(names, after))
    capsys.readouterr()
    run("resumed", resume_model=str(tmp_path / "resumed" / f"iter_{after}"))
    assert "undisturbed" not in capsys.readouterr().out
    same(tmp_path / "whole", tmp_path / "resumed")
    assert (tmp_path / "resumed" / f"iter_{steps}").is_dir() and not later(os.listdir(tmp_path / "whole"), steps)


def test_two_ranks_resume_exactly_too(data, tmp_path):
    """11 images on two ranks: 3 steps an epoch with batches of 2, in two parts, one image is read twice. No seed is
    given. Both stop early, after the same evaluation."""
    path = os.pathsep.join([os.path.dirname(HERE), HERE, os.environ.get("PYTHONPATH", "")])
    ranks = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log")]
    keys = {"batch_size": 1, "gradient_accumulation_steps": 2, "freeze": ["backbone.convs.0"]}
    config = configuration(data, tmp_path, keys=keys)
    done = subprocess.run(
        [sys.executable, *ranks, resume_worker.__file__, config, str(tmp_path), "4"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "undisturbed" not in done.stdout
    assert done.stdout.count("stops early at iter 6: IoU:fence has not improved for 2 evaluations") == 2
    same(tmp_path / "whole", tmp_path / "resumed")

"""Our configurations by PaddleSeg's own tools: each trains, is evaluated, predicts and is exported."""

import json
import os
import pathlib
import re
import subprocess
import sys

import cv2
import pytest
import yaml
from small_configs import SIZE, smaller, write_data

from ppliteseg_paddle.config.source import Source, read_with_bases

ROOT = pathlib.Path(__file__).parent.parent.parent.parent
FOLDER = os.environ.get("PPLITESEG_PADDLESEG_DIRS")
CONFIGS = sorted((ROOT / "configs").glob("[!_]*/*.yml"))
# These are evaluated, predict and are exported, too; the others are trained, with an evaluation.
EXPORTED = ("ppliteseg_t_camvid_480x360.yml", "mobilenetv3_")
pytestmark = pytest.mark.slow

# The tools' work by the package alone, for a release that the index has without them.
TOOL = """
import sys
import paddle
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.core import evaluate, predict, train
from paddleseg.transforms import Compose

config, save_dir, image = sys.argv[1:]
builder = SegBuilder(Config(config))
train(builder.model, builder.train_dataset, val_dataset=builder.val_dataset, optimizer=builder.optimizer,
      save_dir=save_dir, iters=1, batch_size=2, save_interval=1, losses=builder.loss)
weights = save_dir + "/best_model/model.pdparams"
model = SegBuilder(Config(config)).model
model.set_state_dict(paddle.load(weights))
evaluate(model, builder.val_dataset)
predict(model, weights, Compose(builder.val_transforms), [image], save_dir=save_dir + "/masks")
"""

# Runs scripts one after the other in one process: a list of [script, arguments].
WORKER = """
import json, sys
from ppliteseg_paddle.registry import main
for arguments in json.load(open(sys.argv[1])):
    assert main(arguments) == 0, arguments
    print("DONE", flush=True)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder for each data set, which has what the classes of our configurations look for."""
    root = tmp_path_factory.mktemp("data")
    for name in ("CamVid", "Cityscapes"):
        write_data(root, name, classes=11, count=2)  # PaddleSeg's loop never ends where there is less than a batch
    (root / "StreetScenes").symlink_to(root / "CamVid")
    return root


def write_small(path, data, folder):
    """A configuration that is based on our one at `path`. Returns its path and an image for it."""
    given = smaller(read_with_bases(str(path), Source(str(path))))
    own = {"_base_": str(path), "batch_size": 2, "iters": 1, "model": {"backbone": {"pretrained": None}}}
    for key in ("train_dataset", "val_dataset"):
        root = data / given[key]["type"]
        own[key] = {"dataset_root": str(root), "transforms": given[key]["transforms"]}
    config = folder / path.name
    config.write_text(yaml.safe_dump(own, sort_keys=False))
    return config, next(root.glob("leftImg8bit/val/*/*.png"), root / "images" / "val_0.png")


def run(scripts, folder, *paths):
    """Run scripts with our components. Returns what they print, of each."""
    (folder / "scripts.json").write_text(json.dumps([[str(part) for part in script] for script in scripts]))
    (folder / "worker.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *sys.path])}
    done = subprocess.run(
        [sys.executable, folder / "worker.py", folder / "scripts.json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    parts = re.split(r"^DONE$", done.stdout, flags=re.MULTILINE)[:-1]
    assert len(parts) == len(scripts)
    return parts


def evaluated(text):
    """mIoU of each evaluation that PaddleSeg logs."""
    return [float(value) for value in re.findall(r"\[EVAL\] #Images: 2 mIoU: ([\d.]+)", text)]


def test_the_installed_paddleseg_runs_our_configurations(data, tmp_path):
    tool, scripts = tmp_path / "tool.py", []
    tool.write_text(TOOL)
    paths = [path for path in CONFIGS if path.name in EXPORTED]
    for path in paths:
        config, image = write_small(path, data, tmp_path)
        scripts.append([tool, config, tmp_path / path.stem, image])
    for path, text in zip(paths, run(scripts, tmp_path)):
        while_training, after = evaluated(text)
        assert while_training == after
        mask = cv2.imread(str(tmp_path / path.stem / "masks" / "pseudo_color_prediction" / "val_0.png"))
        assert mask.shape[:2] == SIZE


TOOLS = sorted(pathlib.Path(FOLDER or ".").glob("PaddleSeg-2.9*/tools"))


@pytest.mark.skipif(not TOOLS, reason="PPLITESEG_PADDLESEG_DIRS names no folder that holds an unpacked PaddleSeg 2.9")
@pytest.mark.parametrize("tools", TOOLS, ids=lambda path: path.parent.name)
def test_paddlesegs_tools_run_all_our_configurations(tools, data, tmp_path):
    scripts, exported = [], {}
    for path in CONFIGS:
        config, image = write_small(path, data, tmp_path)
        out, common = tmp_path / path.stem, ["--config", config]
        weights = ["--model_path", out / "best_model" / "model.pdparams"]
        train = ["--save_dir", out, "--do_eval", "--save_interval", "1", "--device", "cpu"]
        scripts.append([tools / "train.py", *common, *train])
        if any(part in path.name for part in EXPORTED):
            exported[out] = [len(scripts) - 1, image]
            scripts.append([tools / "val.py", *common, *weights, "--device", "cpu"])
            predict = ["--image_path", image, "--save_dir", out / "masks", "--device", "cpu"]
            scripts.append([tools / "predict.py", *common, *weights, *predict])
            scripts.append([tools / "export.py", *common, *weights, "--save_dir", out / "export"])
    texts = run(scripts, tmp_path, tools.parent)
    for script, text in zip(scripts, texts):
        assert len(evaluated(text)) == (script[0].stem in ("train", "val")), text[-2000:]
    assert len(exported) >= len(EXPORTED)
    for out, (place, image) in exported.items():
        assert evaluated(texts[place]) == evaluated(texts[place + 1])
        mask = cv2.imread(str(out / "masks" / "pseudo_color_prediction" / image.name))
        assert mask.shape[:2] == SIZE
        deploy = yaml.safe_load((out / "export" / "deploy.yaml").read_text())["Deploy"]
        graphs = {path.suffix for path in (out / "export").iterdir()}
        assert deploy["params"] == "model.pdiparams" and {".pdiparams", ".yaml"} < graphs


def test_the_command_that_registers_says_what_it_wants(tmp_path):
    from ppliteseg_paddle.registry import main

    assert main([]) == 2 and main(["--help"]) == 0
    assert main([str(tmp_path / "absent.py")]) == 2

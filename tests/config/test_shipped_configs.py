"""Every configuration that we ship: it reads, builds, trains a step's worth, says what it differs in, and states true
figures."""

import pathlib
import re

import cv2
import numpy as np
import paddle
import pytest
import yaml

from ppliteseg_paddle.config import read as reader
from ppliteseg_paddle.config import source
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.loop.steps import losses_with_a_dimension

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("[!_]*/*.yml"))
ALL = CONFIGS + sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "_base_").glob("*.yml"))
RECIPES = [path for path in CONFIGS if re.search(r"_\d+k", path)]


def test_there_are_configurations_for_every_row_that_the_paper_and_the_release_report():
    names = {pathlib.Path(path).stem for path in CONFIGS}
    for preset in "tb":
        assert {
            f"ppliteseg_{preset}_cityscapes_1024x512_scale{scale}_160k" for scale in ("0.5", "0.75", "1.0")
        } <= names
        assert f"ppliteseg_{preset}_camvid_960x720_10k" in names


def write_pair(image, label, classes):
    for path, pixels in (
        (image, np.full((32, 64, 3), 90, np.uint8)),
        (label, np.arange(32 * 64).reshape(32, 64) % classes),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """One tiny data set of each form, by the name of its class."""
    lists, cityscapes = tmp_path_factory.mktemp("lists"), tmp_path_factory.mktemp("cityscapes")
    write_pair(lists / "images" / "a.jpg", lists / "labels" / "a.png", 11)
    for split in ("train", "val"):
        (lists / (split + ".txt")).write_text("images/a.jpg labels/a.png\n")
        write_pair(
            cityscapes / "leftImg8bit" / split / "ulm" / "ulm_0_leftImg8bit.png",
            cityscapes / "gtFine" / split / "ulm" / "ulm_0_gtFine_labelTrainIds.png",
            19,
        )
    return {"CamVid": lists, "StreetScenes": lists, "Cityscapes": cityscapes}


def config_with(path, roots):
    """The configuration with a tiny data set, and without weights that would have to be downloaded."""
    config = build.load_config(str(ROOT / path))
    for key in ("train_dataset", "val_dataset"):
        config.dic[key]["dataset_root"] = str(roots[config.dic[key]["type"]])
    return build.without_pretrained(config)


def computed_losses(model, outputs, losses, label):
    """As the loop computes them, for our model and for PaddleSeg's own."""
    if hasattr(model, "loss_computation"):
        return model.loss_computation(outputs, losses, {"label": label})
    from paddleseg.core.train import loss_computation

    return losses_with_a_dimension(None, loss_computation)(outputs, label, None, losses)


@pytest.mark.parametrize("path", CONFIGS)
def test_it_builds_with_data_losses_optimizer_and_transforms(path, roots):
    config = config_with(path, roots)
    builder = build.make_builder(config)
    model = build.build(builder, "model")
    train, val = build.build(builder, "train_dataset"), build.build(builder, "val_dataset")
    sample = train[0]
    crop = next(t["crop_size"] for t in config.dic["train_dataset"]["transforms"] if "crop_size" in t)
    assert list(sample["img"].shape) == [3, crop[1], crop[0]] and list(np.shape(sample["label"])) == [crop[1], crop[0]]
    width = next((t["long_size"] for t in config.dic["val_dataset"]["transforms"] if "long_size" in t), 64)
    assert list(val[0]["img"].shape) == [3, width // 2, width]
    num_classes = config.dic["model"]["num_classes"]
    assert train.num_classes == val.num_classes == num_classes

    small = paddle.randn([2, 3, 64, 96])
    outputs = model(small)
    label = paddle.randint(0, num_classes, [2, 64, 96])
    losses = computed_losses(model, outputs, build.build(builder, "loss"), label)
    assert len(losses) == len(outputs) == len(config.dic["loss"]["coef"])
    assert all(np.isfinite(loss.numpy()).all() and list(loss.shape) == [1] for loss in losses)

    optimizer = build.build(builder, "optimizer")
    schedule = config.dic["lr_scheduler"]
    assert optimizer.get_lr() == pytest.approx(schedule["warmup_start_lr"])
    for _ in range(schedule["warmup_iters"]):
        optimizer._learning_rate.step()
    assert optimizer.get_lr() == pytest.approx(schedule["learning_rate"], rel=1e-3)


@pytest.mark.parametrize("path", CONFIGS)
def test_paddlesegs_own_reader_reads_the_same(path):
    from paddleseg.cvlibs import Config

    theirs = Config(str(ROOT / path)).dic
    assert reader.expand_values(theirs, "", source.Source(path)) == build.load_config(str(ROOT / path)).dic


@pytest.mark.parametrize("path", ALL)
def test_none_repeats_what_its_base_says(path):
    own = source.read_yaml(str(ROOT / path))
    bases = own.pop("_base_", [])
    merged = {}
    for base in [bases] if isinstance(bases, str) else bases:
        values = source.read_with_bases(str((ROOT / path).parent / base), source.Source(base))
        merged = source.merge(merged, values)
    assert list(repeated(own, merged)) == []


def repeated(own, base, key=""):
    if own.get("_inherited_") is False:
        return
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            yield from repeated(value, base[name], key + name + ".")
        elif name in base and base[name] == value:
            yield key + name


@pytest.mark.parametrize("path", CONFIGS)
def test_its_header_gives_the_command_with_its_own_name(path):
    commands = [line for line in header(path) if re.search(r"\b(ppliteseg|paddleseg) train ", line)]
    assert [re.search(r"--config (\S+)", line).group(1) for line in commands] == [pathlib.PurePath(path).stem]


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_names_the_hardware_that_it_is_for(path):
    values, _ = reader.load(str(ROOT / path))
    assert values["recipe"] == {"devices": 4, "batch_size": values["batch_size"]}
    width, height = next(t["crop_size"] for t in values["train_dataset"]["transforms"] if "crop_size" in t)
    kept = values["loss"]["types"][0]["min_kept"]
    assert kept == pytest.approx(values["batch_size"] * width * height / 16, rel=0.04)


def test_the_ablation_differs_in_the_parts_that_it_names():
    models = {
        path.split("160k_")[1][:-4]: reader.load(str(ROOT / path))[0]["model"]
        for path in CONFIGS
        if "/ablation/" in path
    }
    parts = {
        name: (
            model["neck"]["type"] == "SPPM",
            model["head"]["fusion"] != "add",
            len(set(model["head"]["out_channels"])) > 1,
        )
        for name, model in models.items()
    }
    assert parts == {
        "plain": (False, False, False),
        "fld": (False, False, True),
        "fld_sppm": (True, False, True),
        "fld_uafm": (False, True, True),
    }
    assert all(model["backbone"]["type"] == "STDCNet1446" for model in models.values())


# --------------------------------------------------------------------------------------------
# Figures: headers against docs/results.md
# --------------------------------------------------------------------------------------------
def header(path):
    lines = (ROOT / path).read_text("utf-8").splitlines()
    return [line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]]


def reported_in_docs():
    """path -> the lines that its header must have, from the table's rows."""
    reports = {}
    for line in (ROOT / "docs" / "results.md").read_text("utf-8").splitlines():
        match = re.match(r"\| \[[^]]+\]\(\.\./(configs/\S+\.yml)\) \|(.*)\|$", line)
        if not match:
            continue
        by, images, miou, flip, ms_flip, fps = (cell.strip() for cell in match.group(2).split("|"))
        lines = reports.setdefault(match.group(1), [])
        if by != "-":
            more = [("flip %s", flip), ("ms+flip %s", ms_flip), ("%s FPS", fps)]
            lines.append(
                ", ".join([f"{by}: {images} mIoU {miou}"] + [text % value for text, value in more if value != "-"])
            )
    return reports


def test_the_table_has_every_recipe_and_nothing_else():
    assert sorted(reported_in_docs()) == RECIPES


@pytest.mark.parametrize("path", RECIPES)
def test_the_figures_of_its_header_are_those_of_the_table(path):
    stated = [line[1:].strip() for line in header(path) if re.search(r"\bmIoU\b", line)]
    assert stated == reported_in_docs()[path]
    assert stated or any("Reported: nothing" in line for line in header(path))


def test_the_yaml_has_no_number_that_yaml_reads_as_text():
    for path in ALL:
        assert not list(texts_that_look_like_numbers(yaml.safe_load((ROOT / path).read_text("utf-8"))))


def texts_that_look_like_numbers(value):
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
        if isinstance(item, (dict, list)):
            yield from texts_that_look_like_numbers(item)
        elif isinstance(item, str) and re.fullmatch(r"[-+\d.eE]+", item):
            yield item

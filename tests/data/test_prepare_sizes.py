"""The numbers that `data prepare` writes fit the images and the machine, and its weights are there or only named."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from ppliteseg_paddle.data.prepare import sizing
from ppliteseg_paddle.data.prepare.sizing import Extent, Machine, plan_run
from ppliteseg_paddle.data.prepare.splits import split_of
from ppliteseg_paddle.data.prepare.starter import Prepared, Pretrained, starter_config
from ppliteseg_paddle.engine.build import build_model, load_config
from ppliteseg_paddle.weights import zoo
from ppliteseg_paddle.weights.read import read_state_dict

GIB = 2**30
CPU, GPU = Machine(2, 16 * GIB), Machine(16, 64 * GIB, 24 * GIB)
EXTENTS = {
    "20 photographs": Extent(16, 4, (480, 360), 480 * 360, 11),
    "20,000 photographs": Extent(19_500, 500, (2048, 1024), 2048 * 1024, 19),
    "CamVid": Extent(367, 101, (480, 360), 480 * 360, 11),
    "300 tiny images": Extent(240, 60, (48, 40), 48 * 40, 4),
    "one image": Extent(1, 0, (30, 20), 600, 2),
    "a few aerial images": Extent(8, 2, (9000, 6000), 9000 * 6000, 6),
    "150 classes": Extent(4000, 500, (640, 480), 640 * 480, 150),
}


@pytest.mark.parametrize("machine", [CPU, GPU, Machine(1, GIB), Machine(64, None)])
@pytest.mark.parametrize("name", EXTENTS)
def test_a_run_shows_something_in_its_first_tenth_and_fits_the_machine(name, machine):
    data = EXTENTS[name]
    plan = plan_run(data, machine)
    assert 10 <= plan.save_interval <= plan.iters / 10  # a line of the log comes every 10 steps
    assert plan.iters % plan.save_interval == 0
    assert 1 <= plan.batch_size <= max(1, data.train)
    memory = machine.gpu_memory or machine.memory
    assert memory is None or plan.memory <= memory / 2
    assert plan.epochs == pytest.approx(plan.iters * plan.batch_size / data.train)
    if machine.gpu_memory is None:  # no longer than half a working day, but once through all images, or 200 steps
        assert plan.hours < 4.5 or plan.epochs < 1.1 or plan.iters == 200


def test_small_and_large_sets_get_sensible_numbers():
    def numbers(name, machine):
        plan = plan_run(EXTENTS[name], machine)
        return plan.crop, plan.batch_size, plan.iters, plan.save_interval, round(plan.epochs)

    assert numbers("20 photographs", CPU) == ((480, 360), 8, 1000, 50, 500)
    assert numbers("20 photographs", GPU) == ((480, 360), 16, 500, 25, 500)
    assert numbers("20,000 photographs", GPU) == ((1024, 512), 16, 80_000, 4000, 66)
    crop, batch, iters, interval, epochs = numbers("20,000 photographs", CPU)
    assert (crop, batch, epochs) == ((704, 352), 8, 1) and interval == iters / 10
    assert numbers("300 tiny images", CPU)[:2] == ((48, 40), 32)
    assert numbers("one image", CPU)[:2] == ((32, 32), 1)
    # PaddleSeg's batch of 8 would take 2.1 GiB, of which half a GiB is for it: 512 * 512 * 1095 * 1 fits.
    assert plan_run(EXTENTS["20,000 photographs"], Machine(2, GIB)).batch_size == 2


def values_of(text):
    return yaml.safe_load(text)


def test_each_number_of_the_configuration_has_its_reason_beside_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path))
    text = starter_config(Prepared("/d/my set", 11), EXTENTS["CamVid"], CPU, Pretrained.find())
    lines = {line.split(":")[0]: line.partition("#")[2] for line in text.splitlines() if not line.startswith("#")}
    plan = plan_run(EXTENTS["CamVid"], CPU)
    assert lines["batch_size"] == " a step takes about 1.4 GiB of memory"
    assert lines["iters"] == f" {plan.epochs:.0f} epochs, about 4.0 hours on 2 cores"
    assert lines["save_interval"] == " a checkpoint, and with --do_eval an evaluation, 20 times"
    assert "ppliteseg train --config '/d/my set/config.yml' --do_eval" in text
    content = values_of(text)
    assert (content["iters"], content["save_interval"]) == (plan.iters, plan.save_interval)
    assert content["lr_scheduler"]["learning_rate"] == 0.01 and "palette" not in content
    assert max(map(len, text.splitlines())) <= 120
    alone = starter_config(Prepared("/d", 2), EXTENTS["one image"], CPU, Pretrained.find())
    assert "do_eval" not in alone and "val_dataset" not in values_of(alone)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A table of two files of STDC1, of which one can be downloaded."""
    table = tmp_path / "zoo.yml"
    common = {"network": "STDC1", "measured_on": "nothing", "source": "a test"}
    rows = {
        "by-hand": {**common, "page": "https://a.page", "file": "a.safetensors"},
        "tiny": {**common, "address": "https://weights.invalid/tiny.safetensors", "sha256": "0" * 64},
        "other": {**common, "network": "STDC2", "address": "https://weights.invalid/other.safetensors"},
    }
    table.write_text(yaml.safe_dump(rows))
    monkeypatch.setattr(zoo, "TABLE", str(table))
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "home"))
    zoo.published.cache_clear()
    yield zoo.published()
    zoo.published.cache_clear()


def test_weights_that_are_here_are_used_and_others_are_only_named(published, tmp_path):
    assert Pretrained.find() == ("tiny", False, False)  # the other one no program can download

    def written():
        data = Prepared(str(tmp_path), 2)
        return starter_config(data, EXTENTS["20 photographs"], CPU, Pretrained.find())

    text = written()
    assert "\n    # pretrained: tiny  # ImageNet: `ppliteseg weights download tiny`;" in text
    assert "pretrained" not in values_of(text)["model"]["backbone"]

    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    (folder / "tiny.safetensors").write_bytes(b"damaged")
    (folder / "other.safetensors").write_bytes(b"of another network")
    assert Pretrained.find() == ("tiny", False, False)

    config = tmp_path / "c.yml"
    config.write_text(text)
    backbone = build_model(load_config(str(config))).backbone
    state = {name: np.full(value.shape, 0.5, np.float32) for name, value in backbone.state_dict().items()}
    save_file(state, folder / "by-hand.safetensors")
    assert Pretrained.find() == ("by-hand", True, False)
    config.write_text(written())
    loaded = load_config(str(config))
    assert loaded.dic["model"]["backbone"]["pretrained"] == "by-hand"
    assert loaded.dic["lr_scheduler"]["learning_rate"] == 0.01  # a quarter
    for value in build_model(loaded).backbone.state_dict().values():
        np.testing.assert_array_equal(value.numpy(), np.full(value.shape, 0.5, np.float32))


def test_without_a_backbone_that_is_here_the_shipped_network_is_the_start(tmp_path):
    assert Pretrained.find() == ("camvid-t", True, True)
    text = starter_config(Prepared(str(tmp_path), 2), EXTENTS["20 photographs"], CPU, Pretrained.find())
    config = tmp_path / "c.yml"
    config.write_text(text)
    loaded = load_config(str(config))
    assert loaded.dic["model"]["pretrained"] == "camvid-t" and "pretrained" not in loaded.dic["model"]["backbone"]
    assert loaded.dic["lr_scheduler"]["learning_rate"] == 0.01 and "with the weights camvid-t" in text
    arrays, built = read_state_dict("camvid-t"), build_model(loaded).state_dict()
    for name, value in built.items():
        if "classifier" not in name:  # those are for two classes
            np.testing.assert_array_equal(value.numpy(), arrays[name].astype(np.float32))


@pytest.mark.parametrize("count", [0, 1])
def test_a_gpu_of_paddle_is_what_a_run_is_made_for(monkeypatch, count):
    properties = SimpleNamespace(total_memory=24 * GIB)
    cuda = SimpleNamespace(device_count=lambda: count, get_device_properties=lambda index: properties)
    paddle = SimpleNamespace(is_compiled_with_cuda=lambda: True, device=SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(sizing, "import_paddle", lambda: paddle)
    monkeypatch.setattr(sizing.metadata, "version", lambda name: {"paddlepaddle-gpu": "3.2.2"}[name])
    assert sizing.this_machine().gpu_memory == (24 * GIB if count else None)


def lists(folder, train, val):
    for name, images in (("train", train), ("val", val)):
        (folder / f"{name}.txt").write_text("".join(f"images/{image}.png masks/{image}.png\n" for image in images))


def test_lists_beside_the_images_keep_their_split_unless_another_is_asked_for(tmp_path):
    (tmp_path / "images").mkdir()
    images = [str(tmp_path / "images" / f"{i}.png") for i in range(10)]
    for image in images:
        open(image, "wb").close()
    assert split_of(images).folder is None and len(split_of(images).val) == 2
    lists(tmp_path, range(7), range(7, 10))
    assert split_of(images) == (frozenset({7, 8, 9}), str(tmp_path))
    assert split_of(images, val=0.1).folder is None and split_of(images, seed=1).folder is None
    for train, val in ((range(7), range(6, 10)), (range(6), range(7, 10))):  # twice, or not at all
        lists(tmp_path, train, val)
        assert split_of(images).folder is None


def test_a_list_of_its_own_choice_takes_no_more_images_than_validation_needs():
    images = [f"/nowhere/{i}.png" for i in range(20_000)]
    assert len(split_of(images).val) == 500 and len(split_of(images, val=0.2).val) == 4000

"""Training skips a few unreadable images, and ends with their list where they are too many."""

import os

import pytest
import yaml
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import build_train_dataset, load_config
from ppliteseg_paddle.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    return make_data(tmp_path / "data")


def test_an_unreadable_image_is_replaced_named_once_and_counted(root, capfd):
    (root / "images" / "03.png").write_bytes(b"")
    data = StreetScenes(transforms=[], dataset_root=str(root))
    unreadable = data.skip_unreadable(0.2)
    assert (data[3]["img"] == data[4]["img"]).all() and (data[3]["label"] == data[4]["label"]).all()
    assert unreadable.paths() == [str(root / "images/03.png")]
    assert capfd.readouterr().err.count(f"skipped: image {(root / 'images/03.png')} is empty") == 1


def test_in_an_evaluation_the_replacement_counts_nowhere(root):
    (root / "labels" / "09.png").write_bytes(b"no png")
    data = StreetScenes(transforms=[], dataset_root=str(root), mode="val")
    data.skip_unreadable(0.5)
    assert (data[1]["label"] == 255).all()
    assert (data[2]["label"] != 255).any()


def test_too_many_end_the_run_with_their_list(root):
    for name in ("02.png", "05.png"):
        os.remove(root / "images" / name)
    data = StreetScenes(transforms=[], dataset_root=str(root))
    data.skip_unreadable(0.2)
    data[2]
    with pytest.raises(DataError) as caught:
        data[5]
    assert str(caught.value).startswith("2 of 8 pairs cannot be read, more than max_unreadable_share (0.2) allows: ")
    assert "02.png" in str(caught.value) and "05.png" in str(caught.value)


def test_wrong_labels_are_never_skipped(root):
    import cv2

    cv2.imwrite(str(root / "labels" / "01.png"), cv2.imread(str(root / "labels" / "01.png"), 0) + 20)
    data = StreetScenes(transforms=[], dataset_root=str(root))
    data.skip_unreadable(0.9)
    with pytest.raises(DataError, match="holds the value"):
        data[1]


@pytest.mark.slow
def test_a_training_skips_them_and_says_so_in_its_result(root, tmp_path):
    (root / "images" / "06.png").write_bytes(b"damaged")
    config = load_config(
        write_config(tmp_path / "c.yml", values(root, max_unreadable_share=0.2, iters=2, batch_size=2))
    )
    result = trainer.train(config, save_dir=str(tmp_path / "o"), device="cpu", num_workers=2, save_interval=2)
    assert result["skipped"] == [str(root / "images/06.png")]
    with open(tmp_path / "o" / "config.yml") as file:
        assert yaml.safe_load(file)["max_unreadable_share"] == 0.2


def test_workers_share_the_count(root):
    from paddle.io import DataLoader

    for name in ("02.png", "05.png"):
        os.remove(root / "images" / name)
    config = load_config(write_config(root / "c.yml", values(root)))
    data = build_train_dataset(config)
    unreadable = data.skip_unreadable(0.5)
    list(DataLoader(data, batch_size=1, num_workers=2, use_shared_memory=False))
    assert [os.path.basename(path) for path in unreadable.paths()] == ["02.png", "05.png"]


@pytest.mark.parametrize("share", [-0.1, 1.5, "few"])
def test_a_wrong_share_is_refused(root, tmp_path, share):
    with pytest.raises(ConfigError, match="max_unreadable_share: expected a number from 0 to 1"):
        load_config(write_config(tmp_path / "c.yml", values(root, max_unreadable_share=share)))

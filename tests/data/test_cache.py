"""The cache of decoded pairs, on disk and in memory: the same pairs, seen through when stale, resumed when broken
off."""

import errno
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data import cache as module
from ppliteseg_paddle.data import cache_files
from ppliteseg_paddle.data.cache import DiskCache, MemoryCache, write_cache
from ppliteseg_paddle.data.cache_files import jobs_of
from ppliteseg_paddle.data.dataset import CheckedDataset, StreetScenes
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.images import UnreadableError


@pytest.fixture
def root(tmp_path):
    return make_data(tmp_path / "data", train=4, val=2)


def data(root, mode="train", transforms=()):
    return StreetScenes(transforms=list(transforms), dataset_root=str(root), mode=mode)


def fill(root, folder, **arguments):
    return write_cache([data(root), data(root, "val")], str(folder), 0, progress=False, **arguments)


def stale(root, folder):
    with pytest.raises(DataError) as caught:
        data(root).use_cache(str(folder))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(
        f"Run: ppliteseg data cache --config FILE --out {folder}; or remove data_cache from the configuration."
    )
    return str(caught.value)


# --- the same pairs ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("mode", ["train", "val"])
def test_a_cache_gives_the_pairs_that_the_files_hold(root, tmp_path, where, mode):
    fill(root, tmp_path / "cache")
    plain, cached = data(root, mode), data(root, mode)
    cached.use_cache(str(tmp_path / "cache") if where == "disk" else "memory")
    assert type(cached.cache) is (DiskCache if where == "disk" else MemoryCache)
    for _ in range(2):  # the second time memory serves
        for index in range(len(plain)):
            for ours, theirs in zip(cached.read(index), plain.read(index)):
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
            for key in ("img", "label"):
                np.testing.assert_array_equal(cached[index][key], plain[index][key])


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_training_samples_do_not_depend_on_the_cache(root, tmp_path, where):
    fill(root, tmp_path / "cache")
    augment = FusedAugment([32, 24], 0.5, 2.0, 0.25, distort={"sharpness_prob": 0.5})
    plain, cached = data(root, transforms=[augment]), data(root, transforms=[augment])
    cached.use_cache(str(tmp_path / "cache") if where == "disk" else "memory")
    cached.draws.seed = plain.draws.seed
    for _ in range(3):
        for index in range(4):
            ours, theirs = cached[index], plain[index]
            np.testing.assert_array_equal(ours["img"], theirs["img"])
            np.testing.assert_array_equal(ours["label"], theirs["label"])


def test_gray_images_and_wide_labels_are_cached_too(root, tmp_path):
    cv2.imwrite(str(root / "labels" / "00.png"), np.full((48, 64), 300, np.uint16))
    arguments = dict(
        mode="train",
        dataset_root=str(root),
        transforms=[],
        num_classes=400,
        img_channels=1,
        train_path=str(root / "train.txt"),
    )
    plain = CheckedDataset(**arguments)
    write_cache([plain], str(tmp_path / "cache"), 0, progress=False)
    for where in (str(tmp_path / "cache"), "memory"):
        cached = CheckedDataset(**arguments)
        cached.use_cache(where)
        for index in range(4):
            image, label = cached.read(index)
            np.testing.assert_array_equal(image, plain.read(index)[0])
            np.testing.assert_array_equal(label, plain.read(index)[1])
    assert plain.read(0)[1].max() == 300


def test_a_cached_pair_cannot_be_written_to(root, tmp_path):
    fill(root, tmp_path / "cache")
    dataset = data(root)
    dataset.use_cache(str(tmp_path / "cache"))
    with pytest.raises(ValueError):
        dataset.read(0)[0][0, 0] = 1


def test_memory_is_shared_with_processes_that_fork_later(root):
    dataset = data(root)
    dataset.use_cache("memory")
    child = os.fork()
    if child == 0:
        dataset.read(2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    expected = data(root).read(2)
    os.remove(dataset.file_list[2][0])
    np.testing.assert_array_equal(dataset.read(2)[0], expected[0])
    np.testing.assert_array_equal(dataset.read(2)[1], expected[1])


# --- writing again -------------------------------------------------------------------------------


def test_a_second_run_decodes_only_what_is_missing_or_has_changed(root, tmp_path):
    first = fill(root, tmp_path / "cache")
    assert (first["pairs"], first["written"], first["kept"], first["skipped"]) == (6, 6, 0, {})
    assert first["bytes"] == 6 * (4096 + 48 * 64 * 4)
    files = sorted((tmp_path / "cache").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1])
    (tmp_path / "cache" / "x.pair.tmp").write_bytes(b"half")
    second = fill(root, tmp_path / "cache")
    assert (second["written"], second["kept"]) == (2, 4)
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_a_moved_data_set_and_a_touched_file_keep_their_cache(root, tmp_path):
    fill(root, tmp_path / "cache")
    os.utime(root / "images" / "00.png")
    root.rename(tmp_path / "elsewhere")
    data(tmp_path / "elsewhere").use_cache(str(tmp_path / "cache"))


def test_a_folder_with_other_files_is_left_alone(root, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "thesis.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"--out .*cache holds other files \(thesis.txt\)"):
        fill(root, tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == ["thesis.txt"]


def test_a_full_disk_is_seen_before_anything_is_decoded(root, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(ConfigError, match="the cache needs 0.1 MiB more, but the disk has only 1.0 MiB free"):
        fill(root, tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_in_the_middle_leaves_whole_pairs_and_is_named(root, tmp_path, monkeypatch, number):
    replace, count = os.replace, []

    def fail(*paths):
        count.append(1)
        if len(count) == 3:
            raise OSError(number, os.strerror(number))
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(cache_files.os, "replace", fail)
        with pytest.raises(ConfigError, match=rf"\.pair cannot be written: {os.strerror(number)}\.$"):
            fill(root, tmp_path / "cache")
    assert len(os.listdir(tmp_path / "cache")) == 2
    assert fill(root, tmp_path / "cache")["kept"] == 2


def test_a_wrong_label_ends_the_run_and_an_unreadable_pair_is_skipped(root, tmp_path):
    (root / "images" / "01.png").write_bytes(b"")
    result = fill(root, tmp_path / "cache")
    assert list(result["skipped"]) == [str(root / "images" / "01.png")] and result["written"] == 5
    dataset = data(root)
    dataset.use_cache(str(tmp_path / "cache"))
    with pytest.raises(UnreadableError, match="is empty"):
        dataset.read(1)
    assert dataset.skip_unreadable(0.5) and dataset[1]["img"].shape == (3, 48, 64)
    cv2.imwrite(str(root / "labels" / "02.png"), np.full((48, 64), 77, np.uint8))
    with pytest.raises(DataError, match="02.png holds the value 77"):
        fill(root, tmp_path / "cache")


# --- stale caches --------------------------------------------------------------------------------


def test_a_missing_folder_or_pair_is_reported(root, tmp_path):
    assert f"data_cache {(tmp_path / 'none')} does not exist" in stale(root, tmp_path / "none")
    write_cache([data(root, "val")], str(tmp_path / "cache"), 0, progress=False)
    assert (
        f"4 of 4 pairs are not as they were cached, the first is {(root / 'images' / '00.png')} (is not in it)"
        in stale(root, tmp_path / "cache")
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda path: cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8)), "(01.png has another size)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "(01.png has changed)"),
        (lambda path: path.unlink(), "(01.png is gone)"),
    ],
)
def test_a_changed_source_is_seen(root, tmp_path, change, reason):
    fill(root, tmp_path / "cache")
    change(root / "images" / "01.png")
    os.path.exists(root / "images" / "01.png") and os.utime(root / "images" / "01.png", ns=(1, 1))
    assert f"1 of 4 pairs are not as they were cached, the first is {root / 'images' / '01.png'} {reason}" in stale(
        root, tmp_path / "cache"
    )


def test_a_damaged_or_cut_off_cache_file_is_seen(root, tmp_path):
    fill(root, tmp_path / "cache")
    file = tmp_path / "cache" / jobs_of(data(root))[0].name
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert "is cut off)" in stale(root, tmp_path / "cache")
    file.write_bytes(b"\0" * 5000)
    assert "is damaged)" in stale(root, tmp_path / "cache")
    file.write_bytes(b"{}".ljust(4096))
    assert "is of another version)" in stale(root, tmp_path / "cache")


def test_labels_checked_for_other_classes_do_not_count(root, tmp_path):
    fill(root, tmp_path / "cache")
    dataset = CheckedDataset("train", str(root), [], 12, train_path=str(root / "train.txt"))
    with pytest.raises(DataError, match="was cached for img_channels 3, num_classes 11, ignore_index 255"):
        dataset.use_cache(str(tmp_path / "cache"))


def test_memory_that_is_not_there_is_reported(root, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 50000)
    with pytest.raises(ConfigError, match="data_cache: memory needs 0.0 MiB for 4 pairs, but only 0.0 MiB are free"):
        data(root).use_cache("memory")


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_fills_a_folder_that_training_uses(root, tmp_path, capsys):
    config = write_config(tmp_path / "c.yml", values(root, batch_size=2, iters=2))
    cache = str(tmp_path / "cache")
    assert main(["data", "cache", "--config", config, "--out", cache, "--num_workers", "0"]) == 0
    out, err = capsys.readouterr()
    assert f"6 pairs in {cache}, 0.1 MiB: 6 decoded, 0 kept, 0 skipped" in out
    assert "6 of 6 pairs to decode: 0.1 MiB of the " in err
    train = ["train", "--config", config, "--device", "cpu", "--opts"]
    assert main([*train, "data_cache=" + cache, "--save_dir", str(tmp_path / "run")]) == 0
    cv2.imwrite(str(root / "images" / "00.png"), np.zeros((48, 64, 3), np.uint8))
    capsys.readouterr()
    assert main([*train, "data_cache=" + cache, "--save_dir", str(tmp_path / "next")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "does not fit the data: 1 of 4 pairs are not as they were cached" in error
    assert main([*train, "data_cache=5", "--save_dir", str(tmp_path / "next")]) == 2
    assert "data_cache: expected a text, found 5." in capsys.readouterr().err


def test_paddlesegs_cityscapes_reads_from_a_cache_and_takes_the_fused_transform(tmp_path, rng):
    from paddleseg.datasets import Cityscapes

    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / "cs" / kind / "train" / "aachen").mkdir(parents=True)
    for frame in range(2):
        name = f"aachen_{frame:06d}_000019_"
        cv2.imwrite(
            str(tmp_path / "cs/leftImg8bit/train/aachen" / (name + "leftImg8bit.png")),
            rng.integers(0, 256, (32, 64, 3)).astype(np.uint8),
        )
        cv2.imwrite(
            str(tmp_path / "cs/gtFine/train/aachen" / (name + "gtFine_labelTrainIds.png")),
            rng.integers(0, 19, (32, 64)).astype(np.uint8),
        )
    augment = FusedAugment([32, 16], 0.5, 1.5, 0.25, distort={})
    plain, cached = (CheckedDataset.of(Cityscapes([augment], str(tmp_path / "cs"), mode="train")) for _ in range(2))
    assert write_cache([plain], str(tmp_path / "cache"), 0, progress=False)["written"] == 2
    cached.use_cache(str(tmp_path / "cache"))
    cached.draws.seed = plain.draws.seed
    for index in (0, 1, 0):
        np.testing.assert_array_equal(cached[index]["img"], plain[index]["img"])

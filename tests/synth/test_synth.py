import json
import os

import cv2
import numpy as np
import pytest

from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.label_sets import label_set
from ppliteseg_paddle.synth import generate, render_scene

SMALL = (160, 120)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, (240, 180)) for seed in range(40)]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("street") / "set"
    generate(str(out), 6, 3, SMALL, seed=3, num_workers=1, progress=False)
    return out


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("size", [(480, 360), (64, 64), (331, 207)])
def test_a_scene_has_the_size_asked_for(size):
    image, label = render_scene(1, size)
    assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
    assert label.shape == (size[1], size[0]) and label.dtype == np.uint8


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    image, label = render_scene(5, SMALL)
    again, label_again = render_scene(5, SMALL)
    other, _ = render_scene(6, SMALL)
    assert np.array_equal(image, again) and np.array_equal(label, label_again)
    assert not np.array_equal(image, other)


def test_a_generator_in_the_seed_s_state_gives_the_seed_s_scene():
    image, _ = render_scene(np.random.default_rng(5), SMALL)
    assert np.array_equal(image, render_scene(5, SMALL)[0])


def test_labels_are_class_ids_or_void(scenes):
    ids = set(np.unique(np.concatenate([label.ravel() for _, label in scenes])).tolist())
    assert ids <= set(range(11)) | {255}


def test_all_eleven_classes_occur_with_layouts_like_camvid_s(scenes):
    labels = np.stack([label for _, label in scenes])
    share = np.bincount(labels.ravel(), minlength=256)[:11] / labels.size
    names = label_set("camvid").classes
    assert all(value > 0.001 for value in share), dict(zip(names, share))
    at = dict(zip(names, share))
    assert 0.2 < at["road"] < 0.45 and 0.1 < at["sky"] < 0.3 and 0.1 < at["building"] < 0.35
    assert at["tree"] > at["car"] > at["pedestrian"]
    top, bottom = labels[:, :20], labels[:, -20:]
    assert (top == names.index("road")).mean() < 0.01 < 0.5 < (bottom == names.index("road")).mean()
    assert (bottom == names.index("sky")).mean() == 0


def test_little_of_a_scene_is_void(scenes):
    assert np.mean([(label == 255).mean() for _, label in scenes]) < 0.05


def test_objects_grow_with_the_picture():
    small, large = render_scene(11, (160, 120))[1], render_scene(11, (640, 480))[1]
    shrunk = cv2.resize(large, (160, 120), interpolation=cv2.INTER_NEAREST)
    assert (small == shrunk).mean() > 0.85


def test_colors_alone_do_not_tell_the_classes(scenes):
    """A classifier that sees one pixel's color, fitted on half of the scenes, fails on the other half."""
    bins = 16

    def codes(image):
        levels = (image // (256 // bins)).astype(np.int64).reshape(-1, 3)
        return levels @ np.array([bins * bins, bins, 1])

    counts = np.zeros((bins**3, 11))
    for image, label in scenes[:20]:
        kept = label.ravel() < 11
        np.add.at(counts, (codes(image)[kept], label.ravel()[kept]), 1)
    frequency = counts.sum(0) / counts.sum()
    best = (counts / frequency).argmax(1)
    confusion = np.zeros((11, 11))
    for image, label in scenes[20:]:
        kept = label.ravel() < 11
        np.add.at(confusion, (label.ravel()[kept], best[codes(image)[kept]]), 1)
    hit = np.diag(confusion)
    iou = hit / np.maximum(confusion.sum(0) + confusion.sum(1) - hit, 1)
    assert iou.mean() < 0.25, iou


def test_the_lists_have_paddleseg_s_form_and_name_files_that_exist(data_set):
    for split, count in (("train", 6), ("val", 3)):
        lines = (data_set / (split + ".txt")).read_text().splitlines()
        assert lines[0] == f"images/{split}_00000.jpg labels/{split}_00000.png"
        assert len(lines) == count
        for line in lines:
            image, label = (cv2.imread(str(data_set / part), cv2.IMREAD_UNCHANGED) for part in line.split(" "))
            assert image.shape == (120, 160, 3) and label.shape == (120, 160)
    assert tuple((data_set / "classes.txt").read_text().splitlines()) == label_set("camvid").classes


def test_two_workers_write_the_same_bytes_as_one(data_set, tmp_path):
    result = generate(str(tmp_path / "two"), 6, 3, SMALL, seed=3, num_workers=2, progress=False)
    assert result["drawn"] == 9 and not result["reused"]
    assert contents(tmp_path / "two") == contents(data_set)


def test_train_and_val_share_no_scene(data_set):
    pictures = [data for name, data in contents(data_set).items() if name.startswith("images/")]
    assert len(set(pictures)) == len(pictures) == 9


def test_more_scenes_of_a_seed_begin_with_the_same_ones(data_set, tmp_path):
    generate(str(tmp_path / "more"), 1, 1, SMALL, seed=3, num_workers=1, progress=False)
    for name in ("images/train_00000.jpg", "labels/val_00000.png"):
        assert (tmp_path / "more" / name).read_bytes() == (data_set / name).read_bytes()


def test_a_finished_set_of_the_same_parameters_is_reused(data_set):
    before = {path: path.stat().st_mtime_ns for path in data_set.rglob("*")}
    result = generate(str(data_set), 6, 3, SMALL, seed=3, num_workers=1, progress=False)
    assert result["reused"] and result["drawn"] == 0
    assert before == {path: path.stat().st_mtime_ns for path in data_set.rglob("*")}


def test_other_parameters_are_refused_and_overwritten_on_demand(tmp_path):
    out = tmp_path / "set"
    generate(str(out), 2, 1, SMALL, seed=0, num_workers=1, progress=False)
    with pytest.raises(
        DataError,
        match=r"is not empty \(it holds a generated set of other parameters: seed 0\); "
        r"choose another --out or pass --overwrite",
    ):
        generate(str(out), 2, 1, SMALL, seed=1, num_workers=1, progress=False)
    result = generate(str(out), 1, 1, SMALL, seed=1, num_workers=1, progress=False, overwrite=True)
    assert result["drawn"] == 2
    assert sorted(path.name for path in (out / "images").iterdir()) == ["train_00000.jpg", "val_00000.jpg"]


def test_a_folder_with_other_files_is_refused_and_they_survive_overwriting(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_text("mine")
    with pytest.raises(DataError, match="is not empty; choose another --out or pass --overwrite"):
        generate(str(tmp_path), 1, 0, SMALL, num_workers=1, progress=False)
    generate(str(tmp_path), 1, 0, SMALL, num_workers=1, progress=False, overwrite=True)
    assert (tmp_path / "images" / "mine.jpg").read_text() == "mine"


def test_an_interrupted_run_leaves_no_lists_and_resumes_where_it_stopped(tmp_path, monkeypatch):
    from ppliteseg_paddle.synth import worker

    real, drawn = worker.render_scene, []

    def stops_at_the_third(rng, size):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(rng, size)

    out = tmp_path / "set"
    monkeypatch.setattr(worker, "render_scene", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate(str(out), 3, 1, SMALL, num_workers=1, progress=False)
    assert not any((out / name).exists() for name in ("train.txt", "val.txt", "classes.txt", "synth.json"))
    monkeypatch.setattr(worker, "render_scene", real)
    result = generate(str(out), 3, 1, SMALL, num_workers=1, progress=False)
    assert result["drawn"] == 2 and (out / "train.txt").exists()


def test_a_worker_that_dies_is_reported_and_leaves_no_lists(tmp_path, monkeypatch):
    out = tmp_path / "set"
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nexit 9\n")
    dying.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(dying))
    with pytest.raises(DataError, match="a worker process ended with status 9 .* run the same command again to resume"):
        generate(str(out), 2, 0, SMALL, num_workers=2, progress=False)
    assert not (out / "train.txt").exists()


def test_a_file_missing_from_a_finished_set_is_drawn_again(tmp_path):
    out = tmp_path / "set"
    generate(str(out), 2, 0, SMALL, num_workers=1, progress=False)
    lost = out / "labels" / "train_00001.png"
    before = lost.read_bytes()
    lost.unlink()
    assert generate(str(out), 2, 0, SMALL, num_workers=1, progress=False)["drawn"] == 1
    assert lost.read_bytes() == before


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(train=-1), "--train is -1; it cannot be negative"),
        (dict(seed=-2), "--seed is -2; it cannot be negative"),
        (dict(train=0, val=0), "--train and --val are both 0"),
        (dict(size=(480, 20)), "--size is 480 20; width and height must be 64 to 8192 pixels"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, change, message):
    arguments = dict(dict(train=1, val=1, size=SMALL, seed=0), **change)
    with pytest.raises(ConfigError, match=message):
        generate(str(tmp_path / "set"), num_workers=1, progress=False, **arguments)
    assert not (tmp_path / "set").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder; choose another --out"):
        generate(str(tmp_path / "set"), 1, 0, SMALL, num_workers=1, progress=False)


def test_an_out_that_cannot_be_made_is_reported_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match="cannot write the data set to '.*file.set': Not a directory; choose another --out"
    ):
        generate(os.path.join(str(tmp_path), "file", "set"), 1, 0, SMALL, num_workers=1, progress=False)


def test_the_command_writes_a_set_and_prints_its_result_as_json(tmp_path, capsys):
    from ppliteseg_paddle.cli.main import main

    out = tmp_path / "set"
    flags = [
        "data",
        "synth",
        "--out",
        str(out),
        "--train",
        "1",
        "--val",
        "1",
        "--size",
        "96",
        "64",
        "--num-workers",
        "1",
    ]
    assert main(flags + ["--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["train"], result["val"], result["size"], result["reused"]) == (1, 1, [96, 64], False)
    assert main(flags) == 0
    assert capsys.readouterr().out == f"Reused 1 training and 1 validation scenes of 96x64 in {out}\n"


def test_the_command_reports_bad_values_on_one_line(tmp_path, capsys):
    from ppliteseg_paddle.cli.main import main

    assert main(["data", "synth", "--out", str(tmp_path / "set"), "--size", "8", "8"]) == 2
    assert capsys.readouterr().err == "error: --size is 8 8; width and height must be 64 to 8192 pixels\n"

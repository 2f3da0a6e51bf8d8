"""Broken data sets, each with one fault: `data check` names it, and none gets past the start of a training."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.data.check import check_datasets, crop_size_of
from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.engine import data_checks
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.errors import DataError, PPLiteSegError


@pytest.fixture
def root(tmp_path):
    return make_data(tmp_path / "data")


def plain_values(root, **changes):
    """A configuration with PaddleSeg's own `type: Dataset`."""
    content = values(root, **changes)
    for mode in ("train", "val"):
        content[mode + "_dataset"].update(
            type="Dataset", num_classes=11, **{mode + "_path": str(root / (mode + ".txt"))}
        )
    return content


def edit_label(root, change, names=None):
    for path in sorted((root / "labels").iterdir()) if names is None else [root / "labels" / name for name in names]:
        label = change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        assert cv2.imwrite(str(path), label)


def cut_off(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def as_jpeg(root, share=1.0):
    image = cv2.imread(str(root / "images" / "03.png"))
    cv2.imwrite(str(root / "images" / "03.jpg"), image)
    cut_off(root / "images" / "03.jpg", share)
    replace_in_list(root, "images/03.png", "images/03.jpg")


def replace_in_list(root, old, new, name="train.txt"):
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def rotate_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "images" / "03.png") as image:
        image.save(root / "images" / "03.jpg", exif=exif)
    replace_in_list(root, "images/03.png", "images/03.jpg")


def color_label(root):
    label = cv2.imread(str(root / "labels" / "03.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(root / "labels" / "03.png"), cv2.merge([label * 3, label * 5, label * 7]))


def transparent_label(root):
    with Image.open(root / "labels" / "03.png") as label:
        label.convert("RGBA").save(root / "labels" / "03.png")


def wide_values(root):
    edit_label(root, lambda label: label.astype(np.uint16) * 100, ["03.png"])


def counted_from_one(label):
    return np.where(label == 255, 255, (np.arange(label.size).reshape(label.shape) // 64 % 11 + 1)).astype(np.uint8)


# name of the fault: how it gets into the data, words of the message that names it
FAULTS = {
    "an image that does not exist": (lambda r: os.remove(r / "images" / "03.png"), "images/03.png does not exist"),
    "a label that does not exist": (lambda r: os.remove(r / "labels" / "03.png"), "labels/03.png does not exist"),
    "an empty image": (lambda r: (r / "images" / "03.png").write_bytes(b""), "images/03.png is empty"),
    "an empty label file": (lambda r: (r / "labels" / "03.png").write_bytes(b""), "labels/03.png is empty"),
    "a damaged image": (lambda r: cut_off(r / "images" / "03.png"), "images/03.png cannot be decoded"),
    "a damaged label": (lambda r: cut_off(r / "labels" / "03.png"), "labels/03.png cannot be decoded"),
    "a JPEG cut off": (lambda r: as_jpeg(r, 0.8), "images/03.jpg ends too early"),
    "a text in place of an image": (
        lambda r: (r / "images" / "03.png").write_text("<html>404</html>"),
        "images/03.png cannot be decoded",
    ),
    "a folder in place of an image": (lambda r: replace_in_list(r, "images/03.png", "images"), "images is a folder"),
    "a label of another size": (
        lambda r: edit_label(r, lambda x: x[:-8], ["03.png"]),
        "labels/03.png is 64x40 pixels, but its image",
    ),
    "an image that its EXIF data turn": (rotate_by_exif, "EXIF rotation"),
    "a value outside the classes": (
        lambda r: edit_label(r, lambda x: np.where(x == 8, 77, x), ["03.png"]),
        "holds the value 77",
    ),
    "classes counted from one": (lambda r: edit_label(r, counted_from_one), "subtract 1"),
    "a color mask": (color_label, "labels/03.png has 3 channels"),
    "a label with transparency": (transparent_label, "labels/03.png has 4 channels"),
    "a label of 16 bits": (wide_values, "holds the values 300, 800, 25500"),
    "a binary mask of 0 and 255": (
        lambda r: edit_label(r, lambda x: np.where(x == 8, 255, 0).astype(np.uint8)),
        "0 and 255",
    ),
    "labels without any class": (lambda r: edit_label(r, lambda x: np.full_like(x, 255)), "no pixel is labelled"),
    "the image as its own label": (
        lambda r: replace_in_list(r, "images/03.png labels/03.png", "images/03.png images/03.png"),
        "label is the image itself",
    ),
    "a line without a label": (
        lambda r: replace_in_list(r, "images/03.png labels/03.png", "images/03.png"),
        "train.txt:4: expected 'image label'",
    ),
    "commas between image and label": (
        lambda r: replace_in_list(r, "png labels", "png,labels"),
        "train.txt:1: expected 'image label'",
    ),
    "an empty list": (lambda r: (r / "train.txt").write_text("\n"), "train.txt is empty"),
    "no list": (lambda r: os.remove(r / "train.txt"), "train.txt cannot be read"),
    "fewer images than a batch": (lambda r: (r / "train.txt").write_text("images/03.png labels/03.png\n"), "batch"),
    "a class file of another length": (
        lambda r: (r / "classes.txt").write_text("a\nb\n"),
        "classes.txt names 2 classes, but num_classes is 11",
    ),
}


def found_by_check(config):
    """What `data check` says: its error, or its findings' messages and fixes."""
    try:
        result = data_checks.check_config(config, num_workers=0, progress=False)
    except PPLiteSegError as error:
        return str(error)
    assert result["errors"] > 0
    return "\n".join(
        f"{row['title']} {'; '.join(row['first'])} {row['fix']}"
        for row in result["findings"]
        if row["severity"] == "error"
    )


@pytest.fixture
def training(monkeypatch):
    """Starts a training without a model; fails where the loop would be reached."""
    build = trainer.build.build
    monkeypatch.setattr(
        trainer.build,
        "build",
        lambda builder, name, verbose=False: (
            build(builder, name, verbose) if name.endswith("_dataset") else {"coef": []}
        ),
    )

    monkeypatch.setattr(trainer, "_loop", lambda *args: pytest.fail("the fault was not seen before the training"))
    return lambda config, tmp_path: trainer.train(config, save_dir=str(tmp_path / "output"), device="cpu")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_by_the_check_and_stops_the_training(root, tmp_path, training, fault):
    break_it, words = FAULTS[fault]
    break_it(root)
    config = load_config(write_config(tmp_path / "c.yml", plain_values(root)))
    assert words in found_by_check(config).replace(str(root) + "/", "")
    with pytest.raises(PPLiteSegError) as caught:
        training(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_sound_data_set_has_no_findings_that_matter(root, tmp_path):
    config = load_config(write_config(tmp_path / "c.yml", plain_values(root)))
    result = data_checks.check_config(config, num_workers=2, progress=False)
    assert (result["errors"], result["complete"]) == (0, True)
    assert {row["kind"] for row in result["findings"]} == {"absent_class", "absent_in_val"}
    train = result["splits"]["train"]
    assert (train["pairs"], train["read"], train["smallest"], train["largest"]) == (8, 8, (64, 48), (64, 48))
    assert train["ignored_pixels"] == 8 * 3 * 64
    assert train["labelled_pixels"] == 8 * 45 * 64
    assert [row["images"] for row in train["classes"]] == [8, 0, 0, 8, 0, 0, 0, 0, 8, 0, 0]
    assert sum(row["pixels"] for row in train["classes"]) == train["labelled_pixels"]


def check(root, tmp_path, **changes):
    config = load_config(write_config(tmp_path / "c.yml", plain_values(root, **changes)))
    result = data_checks.check_config(config, num_workers=0, progress=False)
    return {(row["kind"], row["split"]): row for row in result["findings"]}, result


def test_copies_leaks_and_contradictions_are_found_by_content(root, tmp_path):
    image = cv2.imread(str(root / "images" / "00.png"))
    cv2.imwrite(str(root / "images" / "copy.bmp"), image)  # other file, same pixels
    cv2.imwrite(str(root / "labels" / "other.png"), np.zeros(image.shape[:2], np.uint8))
    with open(root / "train.txt", "a") as file:
        file.write("images/copy.bmp labels/00.png\nimages/copy.bmp labels/other.png\n")
    with open(root / "val.txt", "a") as file:
        file.write("images/copy.bmp labels/00.png\n")
    found, result = check(root, tmp_path)
    assert (
        found["duplicate", "train"]["count"],
        found["contradiction", "train"]["count"],
        found["leak", "val"]["count"],
    ) == (1, 1, 1)
    assert found["leak", "val"]["first"] == [f"{root / 'images/copy.bmp'} = {root / 'images/00.png'}"]
    assert result["errors"] == 0


def test_empty_labels_and_odd_images_are_mentioned(root, tmp_path):
    edit_label(root, lambda label: np.full_like(label, 255), ["02.png"])
    with Image.open(root / "images" / "04.png") as image:
        image.convert("L").save(root / "images" / "04.png")
    found, result = check(root, tmp_path)
    assert found["empty_label", "train"]["first"] == [str(root / "labels/02.png")]
    assert found["channels_of_image", "train"]["first"] == [f"{(root / 'images/04.png')} (L)"]
    assert result["errors"] == 0


def test_the_crop_is_compared_in_width_and_height(root, tmp_path):
    content = plain_values(root)
    content["train_dataset"]["transforms"] = [
        {"type": "RandomPaddingCrop", "crop_size": [64, 48]},
        {"type": "Normalize"},
    ]
    config = load_config(write_config(tmp_path / "c.yml", content))
    assert crop_size_of(data_checks.build.build_train_dataset(config)) == (64, 48)
    assert not any(row["kind"] == "small" for row in data_checks.check_config(config, num_workers=0)["findings"])
    content["train_dataset"]["transforms"][0]["crop_size"] = [65, 48]
    config = load_config(write_config(tmp_path / "c.yml", content))
    small = [row for row in data_checks.check_config(config, num_workers=0)["findings"] if row["kind"] == "small"]
    assert small[0]["count"] == 8 and "64x48, the crop is 65x48" in small[0]["first"][0]


def test_a_sample_still_sees_that_every_file_exists(root):
    os.remove(root / "images" / "03.png")

    class Data:
        num_classes, ignore_index = 11, 255
        file_list = [
            [str(root / "images" / (f"{i:02d}.png")), str(root / "labels" / (f"{i:02d}.png"))] for i in range(8)
        ]

    result = check_datasets({"train": Data()}, sample=2, num_workers=0, progress=False)
    assert [(row["kind"], row["count"]) for row in result["findings"]] == [("missing", 1)]
    assert (result["complete"], result["splits"]["train"]["read"]) == (False, 2)


def test_findings_count_all_and_name_the_first_files_only(root, tmp_path):
    edit_label(root, lambda label: np.where(label == 8, 99, label))
    found, _ = check(root, tmp_path)
    row = found["values", "train"]
    assert (row["count"], len(row["first"]), row["severity"]) == (8, 5, "error")
    assert "CUDA assert" in row["effect"] and "num_classes" in row["fix"]


def _half(value):
    return value / 2


def _fail(value):
    raise DataError(f"no {value:d}")


def _die(value):
    os._exit(1)


def _resized(size):
    return cv2.resize(np.zeros((600, 800, 3), np.uint8), size).shape[:2]


def test_processes_do_not_wait_for_threads_that_opencv_had_before():
    cv2.setNumThreads(4)
    _resized((1600, 1200))  # starts OpenCV's threads in this process
    assert list(run_parallel(_resized, [(900, 700)] * 8, 2, progress=False)) == [(700, 900)] * 8
    assert cv2.getNumThreads() == 4


@pytest.mark.parametrize("workers", [0, 2, None])
def test_parallel_results_come_in_order(workers):
    assert list(run_parallel(_half, list(range(101)), workers, progress=False)) == [value / 2 for value in range(101)]


def test_errors_of_processes_arrive_as_they_are_and_a_killed_one_is_reported():
    with pytest.raises(DataError, match="^no 0$"):
        list(run_parallel(_fail, list(range(10)), 2, progress=False))
    with pytest.raises(DataError, match="worker process was killed"):
        list(run_parallel(_die, list(range(10)), 2, progress=False))


def test_the_jobs_under_way_are_bounded_whatever_their_number():
    taken = []

    class Jobs:
        def __len__(self):
            return 1000

        def __iter__(self):
            for value in range(1000):
                taken.append(value)
                yield value

    results = run_parallel(_half, Jobs(), 2, progress=False)
    assert next(results) == 0
    assert len(taken) <= 2 * 4 * 4 + 4
    results.close()

"""Images of any channels and depth on their way to training: jitter, cache, statistics, checks, starter, weights."""

import cv2
import numpy as np
import pytest
import yaml
from rasters import CELLS, DEPTHS, make_scenes, save, values

from ppliteseg_paddle.data import jitter
from ppliteseg_paddle.data.cache import DiskCache, MemoryCache, write_cache
from ppliteseg_paddle.data.check import check_datasets
from ppliteseg_paddle.data.dataset import CheckedDataset
from ppliteseg_paddle.data.prepare.draft import carry_out
from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
from ppliteseg_paddle.data.stats import dataset_stats
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.visual.bands import shown_image
from ppliteseg_paddle.weights.channels import extend_filters, for_channels

QUIET = dict(num_workers=0, progress=False)
OPERATIONS = [("brightness", 1.2), ("contrast", 0.7), ("saturation", 1.3), ("hue", 6.0), ("sharpness", 1.4)]


def dataset(tmp_path, channels, depth, transforms=(), mode="train", count=3, **options):
    """`count` pairs of random pixels with labels of 0 and 1, as TIFFs."""
    tmp_path.mkdir(exist_ok=True)
    lines = []
    for i in range(count):
        save(tmp_path / f"{i}.tif", values(channels, depth, seed=i))
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.indices((48, 64))[1].astype(np.uint8) % 2)
        lines.append(f"{i}.tif {i}.png\n")
    (tmp_path / "l.txt").write_text("".join(lines))
    list_path = {f"{mode}_path": str(tmp_path / "l.txt")}
    if depth != "8":
        options.setdefault("img_range", [0, DEPTHS[depth][1]])
    return CheckedDataset(mode, str(tmp_path), list(transforms), 2, img_channels=channels, **list_path, **options)


# --- augmentation -----------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_jitter_of_levels_is_that_of_8_bits_but_for_rounding(operation):
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(40, 200, (40, 50, 3)).astype(np.uint8), (9, 9), 0)
    padding = np.full((1, 1, 3), 127, np.uint8)
    whole = jitter.apply(image, [operation], padding, 10)
    levels = jitter.apply(image.astype(np.float32), [operation], padding.astype(np.float32), 10)
    for rounded, exact in zip(whole, levels):
        assert exact.dtype == np.float32
        assert np.abs(rounded.astype(float) - exact).max() < (4 if operation[0] == "hue" else 1.2)


@pytest.mark.parametrize("channels", [1, 2, 4, 10])
def test_only_color_is_changed_in_hue_and_saturation(channels):
    names = {name for seed in range(40) for name, _ in jitter.ColorJitter().draw(np.random.default_rng(seed), channels)}
    assert names == {"brightness", "contrast"} | ({"saturation"} if channels == 1 else set())


@pytest.mark.parametrize("channels", [1, 3, 4, 10])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_sample_is_the_normalised_crop_of_its_image(tmp_path, channels, depth):
    plain = FusedAugment([80, 60], 1, 1, flip_prob=0, mean=[0.25], std=[0.5])
    sample = dataset(tmp_path, channels, depth, [plain])[0]
    assert sample["img"].shape == (channels, 60, 80) and sample["img"].dtype == np.float32
    pixels = values(channels, depth).reshape(48, 64, channels) / DEPTHS[depth][1]
    expected = np.pad(pixels, ((0, 12), (0, 16), (0, 0)), constant_values=0.5)
    np.testing.assert_allclose(sample["img"], (expected.transpose(2, 0, 1) - 0.25) / 0.5, atol=1e-5)
    full = FusedAugment([32, 32], 0.5, 2.0, 0, distort={}, mean=[0.5] * channels, std=[0.5] * channels)
    jittered = dataset(tmp_path / "j", channels, depth, [full])[0]["img"]
    assert jittered.shape == (channels, 32, 32) and jittered.min() >= -1 and jittered.max() <= 1


def test_transforms_that_cannot_take_the_images_are_refused_before_anything_is_read(tmp_path):
    from paddleseg.transforms import Normalize, RandomDistort, RandomPaddingCrop, Resize

    from ppliteseg_paddle.deploy.preprocess import Preprocess

    for step, words in (
        (RandomDistort(), "RandomDistort takes color images of 8 bits alone"),
        (RandomPaddingCrop([32, 32]), "RandomPaddingCrop takes images of 4 channels at most, and img_channels is 10"),
        (Resize([32, 32], interp="AREA"), "Resize with interp AREA takes images of 4 channels at most"),
        (Resize([32, 32], interp="RANDOM"), "Resize with interp RANDOM takes images of 4 channels at most"),
        (Normalize([0.5] * 3, [0.5] * 3), "Normalize: mean has 3 numbers, and img_channels is 10"),
        (FusedAugment([32, 32], mean=[0.5] * 3), "FusedAugment: mean has 3 numbers, and img_channels is 10"),
    ):
        with pytest.raises(ConfigError, match=words):
            dataset(tmp_path, 10, "8", [step])
    with pytest.raises(ConfigError, match="it must be LINEAR: OpenCV averages areas of 4 channels at most"):
        Preprocess([{"type": "Resize", "target_size": [32, 32], "interp": "AREA"}], channels=10)
    dataset(tmp_path / "four", 4, "8", [Resize([32, 32], interp="AREA")])[0]


# --- cache, statistics, checks ------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 10])
@pytest.mark.parametrize("depth", DEPTHS)
def test_caches_hold_what_the_files_hold(tmp_path, channels, depth):
    data = dataset(tmp_path / "d", channels, depth)
    write_cache([data], str(tmp_path / "cache"), **QUIET)
    memory = MemoryCache(data, data.decode)
    for cache in (DiskCache(data, str(tmp_path / "cache")), memory, memory):  # read, and read again
        for index in range(len(data)):
            for cached, read in zip(cache.read(index), data.decode(index)):
                np.testing.assert_array_equal(cached, read)
                assert cached.dtype == read.dtype


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, 10])
@pytest.mark.parametrize("depth", ["12", "16", "float"])
def test_statistics_measure_each_channel_and_suggest_a_range(tmp_path, depth, channels, given):
    top = DEPTHS[depth][1]
    data = dataset(tmp_path, channels, depth, img_range=[0, top] if given else None)
    result = dataset_stats(data, ["a", "b"], **QUIET)
    pixels = np.concatenate([values(channels, depth, seed=i).reshape(-1, channels) for i in range(3)]).astype(float)
    assert all(low < top / 273 and 0.996 * top < high < 1.026 * top for low, high in result["found_range"])
    lows, highs = np.array([[0, top]] if given else result["img_range"]).T
    np.testing.assert_allclose(result["mean"], ((pixels - lows) / (highs - lows)).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(result["std"], ((pixels - lows) / (highs - lows)).std(axis=0), atol=1e-6)


def test_data_check_names_the_line_to_write(tmp_path):
    for channels, depth, words in ((10, "8", "write img_channels: 10"), (3, "12", "Write img_range: [0, 4095]")):
        data = dataset(tmp_path / words[-3:-1], channels, depth)
        data.img_channels, data.img_range = 3, None
        (row,) = [row for row in check_datasets({"train": data}, **QUIET)["findings"] if row["severity"] == "error"]
        assert row["kind"] == "image_form" and words in row["first"][0]


# --- prepare ------------------------------------------------------------------------------------


# The fourth channel of a PNG is transparency, which `prepare` drops.
@pytest.mark.parametrize("channels, depth, suffix", [cell for cell in CELLS if cell[::2] != (4, ".png")])
def test_a_prepared_configuration_says_what_the_images_are(tmp_path, channels, depth, suffix):
    make_scenes(tmp_path, channels, depth, suffix)
    expected = {} if channels == 3 else {"img_channels": channels}
    expected.update({} if depth == "8" else {"img_range": [0, DEPTHS[depth][1]]})
    plan = plan_folder(Sources(str(tmp_path / "images"), str(tmp_path / "masks")), **QUIET)
    config = carry_out(plan, str(tmp_path / "out"), **QUIET)["config"]
    with open(config, encoding="utf-8") as file:
        content = yaml.safe_load(file)
    for key in ("train_dataset", "val_dataset"):
        assert {name: content[key][name] for name in ("img_channels", "img_range") if name in content[key]} == expected
    assert len(content["val_dataset"]["transforms"][0]["mean"]) == channels


@pytest.mark.parametrize(
    "change, words",
    [
        ("model.backbone.in_channels=4", "model.backbone.in_channels is 4, but train_dataset.img_channels is 3"),
        ("val_dataset.img_channels=1", "val_dataset.img_channels is 1, but train_dataset.img_channels is 3"),
        ("val_dataset.img_range=[0, 9]", r"val_dataset.img_range is \[0, 9\], but train_dataset.img_range is None"),
    ],
)
def test_a_network_for_other_images_than_the_data_is_one_line(tmp_path, change, words):
    from tiny_data import make_data, write_config
    from tiny_data import values as configuration

    from ppliteseg_paddle.engine.build import load_config

    root = make_data(tmp_path / "d")
    content = configuration(root)
    for key, mode in (("train_dataset", "train"), ("val_dataset", "val")):
        content[key].update({"type": "Dataset", "num_classes": 11, f"{mode}_path": str(root / f"{mode}.txt")})
    with pytest.raises(ConfigError, match=words):
        load_config(write_config(tmp_path / "c.yml", content), [change])


# --- weights and pictures -----------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 4, 10])
def test_extended_filters_give_gray_images_the_activations_that_they_had(channels):
    rng = np.random.default_rng(0)
    weight, gray = rng.normal(size=(8, 3, 3, 3)).astype(np.float32), rng.normal(size=(3, 3))
    state, extended = for_channels({"c.weight": weight}, {"c.weight": [8, channels, 3, 3]})
    assert extended == [("c.weight", 3, channels)] and state["c.weight"].dtype == np.float32
    np.testing.assert_allclose((state["c.weight"] * gray).sum((1, 2, 3)), (weight * gray).sum((1, 2, 3)), atol=1e-5)
    if channels > 3:
        np.testing.assert_allclose(extend_filters(weight, channels)[:, :3], weight * 3 / channels, rtol=1e-6)


def test_pre_trained_weights_of_color_start_a_network_of_ten_bands_and_strict_loads_refuse_them(tmp_path):
    import paddle

    from ppliteseg_paddle.errors import WeightsError
    from ppliteseg_paddle.models.stdc import STDCNet813
    from ppliteseg_paddle.weights.load import load_weights

    color = STDCNet813()
    paddle.save(color.state_dict(), str(tmp_path / "color.pdparams"))
    ten = STDCNet813(in_channels=10, pretrained=str(tmp_path / "color.pdparams"))
    image = paddle.rand([1, 1, 32, 32])
    color.eval(), ten.eval()
    ours, theirs = (net(image.expand([1, count, 32, 32]))[0] for net, count in ((ten, 10), (color, 3)))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)
    with pytest.raises(WeightsError, match="has shape"):
        load_weights(STDCNet813(in_channels=10), str(tmp_path / "color.pdparams"), strict=True)


def test_a_picture_shows_the_bands_that_are_chosen():
    image = np.arange(10, dtype=np.float32).reshape(1, 1, 10).repeat(4, 0)
    assert shown_image(image)[0, 0].tolist() == [2, 1, 0]  # BGR of bands 1 2 3
    assert shown_image(image, [8, 4, 3])[0, 0].tolist() == [2, 3, 7]
    assert shown_image(image, [5])[0, 0].tolist() == [4, 4, 4]
    color = np.array([[[3, 2, 1]]], np.uint8)  # bands 1 2 3 in OpenCV's order
    assert shown_image(color)[0, 0].tolist() == shown_image(color, [1, 2, 3])[0, 0].tolist() == [3, 2, 1]
    with pytest.raises(ConfigError, match="give three numbers from 1 to 10"):
        shown_image(image, [1, 2, 11])

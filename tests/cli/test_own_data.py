"""A person's own data the whole way: from folders of any names to overlays in the colors of their masks."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from commands import files_in, values_of
from PIL import Image

from ppliteseg_paddle.cli.main import main

pytestmark = pytest.mark.slow  # trains

COLORS = [(230, 25, 75), (60, 180, 75), (0, 130, 200)]
WORDS = "天空\n道路\nмашина\n"


def run(capsys, *argv):
    """What a command prints as JSON."""
    assert main([*map(str, argv), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def scene(number, height, width):
    """A mask of three classes, and its image."""
    ids = np.zeros((height, width), np.uint8)
    ids[height // 2 :] = 1
    left = 5 * number % (width - 12)
    ids[height // 3 : height // 3 * 2, left : left + 12] = 2
    noise = np.random.default_rng(number).integers(-20, 20, (height, width, 3))
    return ids, (np.array([[200, 190, 90], [60, 60, 60], [30, 60, 220]])[ids] + noise).clip(0, 255).astype(np.uint8)


def test_deep_tiffs_and_palette_masks_with_blanks_and_chinese_in_their_names(tmp_path, capsys):
    home = tmp_path / "我的 数据"
    for folder in ("照片 16", "掩码"):
        (home / folder).mkdir(parents=True)
    for i in range(6):
        ids, image = scene(i, 96, 320)
        deep = image[..., ::-1].astype(np.uint16) * 257
        tifffile.imwrite(home / "照片 16" / f"街道 {i} 左.tif", deep, photometric="rgb")
        mask = Image.fromarray(ids)
        mask.putpalette([value for color in COLORS for value in color], "RGB")
        mask.save(home / "掩码" / f"街道 {i} 左_标签.png")
    (home / "类别.txt").write_text(WORDS, encoding="utf-8")
    source = ["--images", home / "照片 16", "--masks", home / "掩码", "--classes", home / "类别.txt"]
    result = run(capsys, "data", "prepare", "folder", *source, "--out", home / "准备 好", "--yes")
    config = ["--config", result["config"]]
    assert result["palette"] == [list(color) for color in COLORS]
    checked = run(capsys, "data", "check", *config, "--num_workers", 0)
    assert (checked["errors"], checked["splits"]["train"]["read"]) == (0, 5)

    size = ["--iters", 2, "--batch_size", 2, "--do_eval", "--save_dir", home / "输出 1", "--device", "cpu"]
    trained = run(capsys, "train", *config, *size)
    out = home / "结果"
    run(
        capsys,
        *("predict", "--config", trained["config"], "--model_path", trained["model_path"], "--device", "cpu"),
        *("--image_path", home / "照片 16", "--save_dir", out, "--outputs", "mask", "color", "overlay"),
    )
    assert files_in(out / "mask") == [f"街道 {i} 左.png" for i in range(6)]
    ids, drawn = (values_of(out / kind / "街道 0 左.png")[0] for kind in ("mask", "color"))
    np.testing.assert_array_equal(drawn, np.array(COLORS, np.uint8)[ids])
    overlay = cv2.imdecode(np.fromfile(out / "overlay" / "街道 0 左.png", np.uint8), cv2.IMREAD_COLOR)
    height = ids.shape[0]
    legend = {tuple(int(value) for value in pixel[::-1]) for pixel in overlay[height:].reshape(-1, 3)}
    assert overlay.shape[0] > height
    assert {COLORS[number] for number in np.unique(ids)} <= legend


def test_hundreds_of_tiny_images_whose_masks_are_colors(tmp_path, capsys):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(300):
        ids, image = scene(i, 30, 36)
        cv2.imwrite(str(tmp_path / "images" / f"{i:03d}.jpg"), image)
        Image.fromarray(np.array(COLORS, np.uint8)[ids]).save(tmp_path / "masks" / f"{i:03d}.png")
    folders = ["--images", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "d"]
    result = run(capsys, "data", "prepare", "folder", *folders, "--yes")
    config = ["--config", result["config"]]
    order = sorted(COLORS)  # ids are in the order of the colors
    assert (result["train"], result["val"], result["palette"]) == (240, 60, [list(color) for color in order])
    assert run(capsys, "data", "check", *config, "--num_workers", 0)["errors"] == 0
    trained = run(capsys, "train", *config, "--iters", 3, "--save_dir", tmp_path / "o", "--device", "cpu")
    source = ["--image_path", tmp_path / "d" / "val.txt", "--save_dir", tmp_path / "p", "--device", "cpu"]
    model = ["--config", trained["config"], "--model_path", trained["model_path"]]
    assert run(capsys, "predict", *model, *source)["images"] == 60
    first = files_in(tmp_path / "p" / "mask")[0]
    with Image.open(tmp_path / "p" / "mask" / first) as mask:
        assert mask.getpalette()[:9] == [value for color in order for value in color]
    assert main(["data", "prepare", "folder", *map(str, folders)]) == 0
    assert "nothing to change" in capsys.readouterr().out

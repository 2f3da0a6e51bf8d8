"""The colors of a person's masks are those of the masks that are predicted."""

import numpy as np
import pytest
import yaml
from commands import run_json, values_of
from PIL import Image

from ppliteseg_paddle.data.prepare.draft import carry_out
from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.reading.label_sets import label_set, palette_for

QUIET = {"num_workers": 0, "progress": False}
OWN = [(250, 10, 120), (0, 0, 0), (30, 200, 60), (90, 90, 91)]
IDS = np.repeat([[0, 1, 2, 3]], 8, axis=0).repeat(10, axis=1).astype(np.uint8)


def indexed(ids, colors):
    picture = Image.fromarray(ids)
    picture.putpalette([value for color in colors for value in color], "RGB")
    return picture


def prepared(tmp_path, masks, **sources):
    """The configuration for these masks, as read from its file."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name, mask in enumerate(masks):
        Image.fromarray(np.full((8, 40, 3), 99, np.uint8)).save(tmp_path / "images" / f"{name}.png")
        mask.save(tmp_path / "masks" / f"{name}.png")
    plan = plan_folder(Sources(str(tmp_path / "images"), str(tmp_path / "masks"), **sources), **QUIET)
    with open(carry_out(plan, str(tmp_path / "out"), **QUIET)["config"], encoding="utf-8") as file:
        return yaml.safe_load(file)


def palette(config):
    return [tuple(color) for color in config["palette"]]


def test_palette_files_give_the_colors_of_their_indices(tmp_path):
    assert palette(prepared(tmp_path, [indexed(IDS, OWN), indexed(IDS[:, ::-1], OWN)])) == OWN


def test_color_masks_give_each_class_its_color(tmp_path):
    masks = [Image.fromarray(np.array(OWN, np.uint8)[ids]) for ids in (IDS, IDS[::-1])]
    assert palette(prepared(tmp_path, masks)) == sorted(OWN)  # ids are in the order of the colors


def test_of_several_colors_of_a_class_the_most_frequent_one_counts(tmp_path):
    masks = [Image.fromarray(np.array([*OWN[:3], OWN[0]], np.uint8)[ids]) for ids in (IDS, IDS)]
    masks[0].putpixel((0, 0), OWN[1])
    remap = {OWN[0]: 1, OWN[1]: 1, OWN[2]: 0}
    assert palette(prepared(tmp_path, masks, remap=remap)) == [OWN[2], OWN[0]]


def test_a_class_that_occurs_nowhere_gets_a_color_of_its_own(tmp_path):
    masks = [Image.fromarray(np.array([OWN[0], OWN[2]], np.uint8)[ids // 2]) for ids in (IDS, IDS)]
    found = palette(prepared(tmp_path, masks, remap={OWN[0]: 0, OWN[2]: 2}))
    assert (found[0], found[2]) == (OWN[0], OWN[2]) and found[1] not in (OWN[0], OWN[2])


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)],  # which only show values
        [(9, 9, 200), (9, 9, 200), (30, 200, 60), (90, 90, 91)],  # two classes that nobody could tell apart
        palette_for(4),  # those that are taken anyway
    ],
)
def test_colors_that_say_nothing_are_not_written(tmp_path, colors):
    assert "palette" not in prepared(tmp_path, [indexed(IDS, colors), indexed(IDS, colors)])


def test_colors_of_a_known_set_are_its_own_anyway(tmp_path):
    known = np.array(label_set("camvid").palette, np.uint8)
    config = prepared(tmp_path, [Image.fromarray(known[ids]) for ids in (IDS, IDS)])
    assert "palette" not in config and config["model"]["num_classes"] == 11


def palette_of(path):
    with Image.open(path) as file:
        return [tuple(file.getpalette()[3 * i : 3 * i + 3]) for i in range(4)]


@pytest.mark.slow
def test_predictions_have_the_colors_by_configuration_and_by_export_unless_others_are_asked_for(tmp_path, capsys):
    prepared(tmp_path, [indexed(IDS, OWN), indexed(IDS[:, ::-1], OWN)])
    config, other = tmp_path / "out" / "config.yml", [(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)]
    size = ["--iters", 1, "--batch_size", 1, "--save_dir", tmp_path / "o", "--device", "cpu"]
    status, result = run_json(capsys, "train", "--config", config, *size)
    assert status == 0
    model = ["--config", config, "--model_path", result["model_path"]]
    source = ["--image_path", tmp_path / "images", "--device", "cpu", "--outputs", "mask", "color", "overlay"]
    assert run_json(capsys, "export", *model, "--save_dir", tmp_path / "e", "--format", "paddle")[0] == 0
    (tmp_path / "colors.txt").write_text("".join("{} {} {}\n".format(*color) for color in other))
    ways = {
        "config": (model, OWN),
        "export": (["--model_dir", tmp_path / "e"], OWN),
        "asked": ([*model, "--palette", tmp_path / "colors.txt"], other),
    }
    for name, (flags, colors) in ways.items():
        assert run_json(capsys, "predict", *flags, *source, "--save_dir", tmp_path / name)[0] == 0
        assert palette_of(tmp_path / name / "mask" / "0.png") == colors
        ids, drawn = (values_of(tmp_path / name / kind / "0.png")[0] for kind in ("mask", "color"))
        np.testing.assert_array_equal(drawn, np.array(colors, np.uint8)[ids])
        assert (tmp_path / name / "overlay" / "0.png").exists()
    assert list(Predictor(tmp_path / "e").label_set.palette) == OWN

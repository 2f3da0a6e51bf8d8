import json
import pathlib

from ppliteseg_paddle.cli.main import main

CONFIGS = pathlib.Path(__file__).parent.parent.parent / "configs"
CITYSCAPES = str(CONFIGS / "cityscapes" / "ppliteseg_t_cityscapes_1024x512_scale0.5_160k.yml")


def test_the_table_gives_parts_totals_features_and_memory_without_data_or_downloads(capsys):
    assert main(["info", "--config", CITYSCAPES]) == 0
    out = capsys.readouterr().out
    assert "19 classes, input 1x3x512x1024" in out
    rows = {
        line.rsplit(None, 4)[0].strip(): line.split()[-4:]
        for line in out.splitlines()
        if line.count(",") >= 1 and "." in line
    }
    assert rows["total, inference"] == ["8,039,666", "8,028,320", "11.470", "11.421"]
    assert "backbone.4             1x1024x16x32       32" in out
    assert "not counted: activations" in out and "(training only)" in out


def test_json_has_plain_numbers_and_the_given_shape(capsys):
    config = str(CONFIGS / "ablation" / "ppliteseg_b_cityscapes_1024x512_scale0.75_160k_plain.yml")
    assert main(["info", "--config", config, "--input_shape", "2", "3", "64", "128", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["input_shape"] == [2, 3, 64, 128] and result["num_classes"] == 19
    assert result["features"][-1]["shape"] == [2, 96, 2, 4]
    assert result["parts"]["neck"]["parameters"] == 1024 * 96 + 4 * 96


def test_an_input_that_is_no_color_image_is_refused(capsys):
    assert main(["info", "--config", str(CITYSCAPES), "--input_shape", "1", "4", "64", "64"]) == 2
    assert "--input_shape 1 4 64 64: images have 3 channels: give N 3 H W." in capsys.readouterr().err


def test_another_model_is_refused(tmp_path, capsys):
    config = tmp_path / "other.yml"
    config.write_text(
        f"_base_: {CITYSCAPES}\nmodel:\n  _inherited_: False\n  type: PPLiteSeg\n  num_classes: 19\n  backbone: "
        f"{{type: STDC1}}\n"
    )
    assert main(["info", "--config", str(config)]) == 2
    assert "info describes PPLiteSegNet, but model.type is PPLiteSeg" in capsys.readouterr().err

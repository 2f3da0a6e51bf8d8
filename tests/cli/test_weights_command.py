import json

import numpy as np
import paddle
import pytest

from ppliteseg_paddle import pp_liteseg_b
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.models.stdc import STDCNet813
from ppliteseg_paddle.weights.files import read_state_dict, write_state_dict


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    paddle.seed(3)
    model = pp_liteseg_b(num_classes=6)
    path = str(tmp_path_factory.mktemp("weights") / "model.pdparams")
    paddle.save(model.state_dict(), path)
    return model, path


def test_show_tells_what_a_file_is_and_lists_its_arrays(saved, capsys):
    assert main(["weights", "show", saved[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"{saved[1]}: PP-LiteSeg-B, 6 classes",
        "  format      Paddle",
        "  names       ours",
        "  parameters  12,363,968 learned, 18,002 statistics",
    ]
    assert "367 arrays:" in lines
    assert any(line.split() == ["seg_heads.0.classifier.weight", "float32", "6x64x1x1"] for line in lines)


def test_show_as_json(saved, capsys):
    assert main(["weights", "show", saved[1], "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["preset"], result["backbone"], result["num_classes"], result["levels"]) == ("B", "STDC2", 6, 3)
    assert {"name": "neck.conv_out.bn._mean", "shape": [128], "dtype": "float32"} in result["arrays"]


def test_convert_goes_to_paddlesegs_names_and_back_through_both_formats(saved, tmp_path, capsys):
    theirs, back = str(tmp_path / "theirs.pdparams"), str(tmp_path / "back.safetensors")
    assert main(["weights", "convert", saved[1], theirs, "--to", "paddleseg"]) == 0
    assert f"wrote {theirs}: 370 arrays under PaddleSeg's names" in capsys.readouterr().out
    assert main(["weights", "convert", theirs, back]) == 0
    expected, found = read_state_dict(saved[1]), read_state_dict(back)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_backbone_is_named_as_one(tmp_path, capsys):
    path = str(tmp_path / "b.safetensors")
    write_state_dict(path, {name: tensor.numpy() for name, tensor in STDCNet813().state_dict().items()})
    assert main(["weights", "show", path]) == 0
    assert f"{path}: STDC1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arrays, target, text",
    [
        ({"x": np.zeros(3)}, "out.pdparams", "names of no model known here (x, ...)"),
        ({"stages.0.conv.weight": np.zeros(3)}, "out.pth", "weights can be written as .pdparams or .safetensors"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_writes_nothing(arrays, target, text, tmp_path, capsys):
    source, target = str(tmp_path / "in.safetensors"), tmp_path / target
    write_state_dict(source, arrays)
    assert main(["weights", "convert", source, str(target)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and text in error and error.count("\n") == 1
    assert not target.exists()


def test_an_action_is_needed_and_a_missing_file_is_named(tmp_path, capsys):
    assert main(["weights"]) == 2
    assert main(["weights", "show", str(tmp_path / "none.pdparams")]) == 2
    assert "none.pdparams does not exist" in capsys.readouterr().err


def test_neither_action_loads_paddle(saved):
    import subprocess
    import sys

    code = (
        f"import sys; from ppliteseg_paddle.cli.main import main; status = main(['weights', 'show', {saved[1]!r}]); "
        "assert 'paddle' not in sys.modules; sys.exit(status)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

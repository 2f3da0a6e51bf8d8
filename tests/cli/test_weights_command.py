import json

import numpy as np
import paddle
import pytest

from ppliteseg_paddle import pp_liteseg_b
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.models.stdc import STDCNet813
from ppliteseg_paddle.weights.read import read_state_dict
from ppliteseg_paddle.weights.write import write_state_dict


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    paddle.seed(3)
    model = pp_liteseg_b(num_classes=6)
    path = str(tmp_path_factory.mktemp("weights") / "model.pdparams")
    paddle.save(model.state_dict(), path)
    return model, path


def test_show_lists_the_arrays_of_a_file_and_ends_with_what_it_is(saved, capsys):
    assert main(["weights", "show", saved[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5:] == [
        "",
        f"{saved[1]}: PP-LiteSeg-B, 6 classes",
        "  format      Paddle",
        "  names       ours",
        "  parameters  12,363,968 learned, 18,002 statistics",
    ]
    assert lines[0] == "367 arrays:" and len(lines) == 1 + 367 + 5
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


def on_a_foreign_backbone():
    """Arrays of a PP-LiteSeg on somebody's backbone, whose names look like STDC1's."""
    head = {name: array.numpy() for name, array in pp_liteseg_b(num_classes=3).state_dict().items()}
    head = {name: array for name, array in head.items() if not name.startswith("backbone.")}
    blocks = [f"backbone.stages.{stage}.{block}.mixer.weight" for stage in range(5) for block in range(2)]
    return {**head, **{name: np.zeros(3, np.float32) for name in blocks}}


def test_a_model_on_a_foreign_backbone_is_shown_as_that(tmp_path, capsys):
    path = str(tmp_path / "f.pdparams")
    write_state_dict(path, on_a_foreign_backbone())
    assert main(["weights", "show", path]) == 0
    assert f"{path}: a PP-LiteSeg with 3 fusions on another backbone, 3 classes\n" in capsys.readouterr().out


def test_a_foreign_backbones_arrays_keep_their_names_in_paddlesegs_file(tmp_path, capsys):
    source, target = str(tmp_path / "f.pdparams"), str(tmp_path / "theirs.pdparams")
    write_state_dict(source, on_a_foreign_backbone())
    assert main(["weights", "convert", source, target, "--to", "paddleseg"]) == 0
    assert "its backbone is not known here: those names are unchanged\n" in capsys.readouterr().out
    backbone = {name for name in on_a_foreign_backbone() if name.startswith("backbone.")}
    found = set(read_state_dict(target))
    assert backbone == {name for name in found if name.startswith("backbone.")} and len(backbone) == 10
    assert "ppseg_head.cm.conv_out._conv.weight" in found


@pytest.mark.parametrize(
    "arrays, target, text",
    [
        ({"x": np.zeros(3)}, "out.pdparams", "names of no model known here (x, ...)"),
        (
            {"seg_heads.0.classifier.weight": np.zeros((3, 1))},
            "out.pth",
            "weights can be written as .pdparams or .safetensors",
        ),
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

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


def header(path):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {key: value for key, value in file.metadata().items()}


def test_a_safetensors_file_names_its_network_and_with_a_configuration_its_classes(saved, tmp_path):
    from ppliteseg_paddle import __version__

    plain, described = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    assert main(["weights", "convert", saved[1], plain]) == 0
    found = header(plain)
    assert found["producer"] == f"ppliteseg_paddle {__version__}"
    assert {key: json.loads(found[key]) for key in ("preset", "num_classes", "names")} == {
        "preset": "B",
        "num_classes": 6,
        "names": "ours",
    }
    config = "configs/camvid/ppliteseg_t_camvid_480x360.yml"
    assert main(["weights", "convert", saved[1], described, "--config", config]) == 0
    found = {key: json.loads(value) for key, value in header(described).items() if key != "producer"}
    assert found["classes"][:2] == ["sky", "building"] and found["palette"][0] == [128, 128, 128]
    assert (found["scale"], found["mean"], found["std"]) == (255.0, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


def test_a_configuration_for_a_file_without_a_header_is_refused(saved, tmp_path, capsys):
    target = str(tmp_path / "a.pdparams")
    assert main(["weights", "convert", saved[1], target, "--config", "c.yml"]) == 2
    assert "--config goes into the header of a .safetensors file" in capsys.readouterr().err

import os

import numpy as np
import paddle
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.write import write_state_dict

PADDLESEG = {"type": "PPLiteSeg", "num_classes": 11, "backbone": {"type": "STDC1"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("pretrained") / "data")


def model_of(root, path, key):
    model = {**PADDLESEG, "backbone": dict(PADDLESEG["backbone"])}
    (model if key == "model" else model["backbone"])["pretrained"] = str(path)
    return build.build_model(build.load_config(write_config(root / "c.yml", values(root, model=model))))


@pytest.mark.parametrize("key", ["model", "model.backbone"])
def test_a_file_that_would_run_a_command_is_refused_for_paddlesegs_components_too(root, tmp_path, key):
    path = tmp_path / "evil.pdparams"
    path.write_bytes(b"cos\nmkdir\n(V%s\ntR." % os.fsencode(tmp_path / "witness"))
    with pytest.raises(WeightsError, match=r"asks for 'os\.mkdir', which arrays do not need"):
        model_of(root, path, key)
    assert os.listdir(tmp_path) == ["evil.pdparams"]


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_paddlesegs_backbone_takes_what_fits_by_name_and_shape(root, tmp_path, suffix):
    from paddleseg.models import STDC1

    state = {name: tensor.numpy() for name, tensor in STDC1().state_dict().items()}
    name = "features.0.conv.weight"
    state[name] = np.full_like(state[name], 0.25)
    write_state_dict(str(tmp_path / ("w" + suffix)), {**state, "fc.weight": np.zeros([3, 4], np.float32)})
    model = model_of(root, tmp_path / ("w" + suffix), "model.backbone")
    np.testing.assert_array_equal(model.backbone.state_dict()[name].numpy(), state[name])


def test_a_file_of_which_nothing_fits_is_refused(root, tmp_path):
    write_state_dict(str(tmp_path / "w.pdparams"), {"a": np.zeros([3], np.float32)})
    with pytest.raises(WeightsError, match="has none of STDCNet's arrays"):
        model_of(root, tmp_path / "w.pdparams", "model.backbone")


def test_a_component_that_reads_its_file_itself_reads_it_checked(tmp_path):
    from ppliteseg_paddle.engine.pretrained import safe_pretrained

    load, path = paddle.load, str(tmp_path / "w.pdparams")
    paddle.save({"a": paddle.ones([2])}, path)
    with safe_pretrained():
        np.testing.assert_array_equal(paddle.load(path)["a"].numpy(), [1, 1])
        (tmp_path / "w.pdparams").write_bytes(b"cos\nmkdir\n(V%s\ntR." % os.fsencode(tmp_path / "witness"))
        with pytest.raises(WeightsError):
            paddle.load(path)
    assert paddle.load is load and not (tmp_path / "witness").exists()

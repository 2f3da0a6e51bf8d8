"""Backbones out of the models of other projects, by the names of their arrays."""

import re

import numpy as np
import paddle
import pytest
from reference import state_of
from torch_format import write_zip

from ppliteseg_paddle import load_weights, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models import stdc
from ppliteseg_paddle.weights.names import describe, to_ours

BUILDERS = {"STDC1": stdc.STDCNet813, "STDC2": stdc.STDCNet1446}
STRIDES = (2, 4, 8, 16, 32)


def super_gradients_name(ours):
    """What super-gradients calls one of our arrays."""
    stage, rest = re.fullmatch(r"stages\.(\d)\.(.*)", ours).groups()
    rest = rest.replace("_mean", "running_mean").replace("_variance", "running_var")
    before = f"stages.block_s{STRIDES[int(stage)]}."
    if int(stage) < 2:
        return f"{before}0.seq.{rest}"
    block, rest = rest.split(".", 1)
    if rest.startswith("downsample."):
        return f"{before}{block}.conv_list.1.0.seq.{rest[len('downsample.') :]}"
    number, rest = re.fullmatch(r"convs\.(\d)\.(.*)", rest).groups()
    halved = "1." if block == "0" and number == "1" else ""  # the second convolution follows the one that halves
    return f"{before}{block}.conv_list.{number}.{halved}seq.{rest}"


def authors_name(ours, layers):
    """What the STDC authors call it; layers: our stage and block -> their number."""
    stage = re.match(r"stages\.[01]\.|stages\.\d\.\d+\.", ours).group()
    rest = ours[len(stage) :].replace("_mean", "running_mean").replace("_variance", "running_var")
    rest = rest.replace("convs.", "conv_list.").replace("downsample.conv", "avd_layer.0")
    return f"features.{layers[stage]}." + rest.replace("downsample.bn", "avd_layer.1")


@pytest.fixture(params=BUILDERS)
def backbone(request):
    paddle.seed(5)
    return request.param, state_of(BUILDERS[request.param]())


def whole_model(state, before, rest=("decoder.up_stages.0.conv_out.seq.conv.weight",)):
    """Somebody's model around a backbone, with the counters of PyTorch's normalisation."""
    counters = {name[: -len("running_mean")] + "num_batches_tracked" for name in state if name.endswith("running_mean")}
    whole = {before + name: array for name, array in state.items()}
    whole.update({before + name: np.array(3, np.int64) for name in counters})
    return {**whole, **{name: np.ones((2, 2), np.float32) for name in rest}}


def assert_same(found, expected):
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


@pytest.mark.parametrize("before", ["", "encoder.backbone.", "module.encoder.backbone."])
def test_the_backbone_of_super_gradients_and_libreyolo_becomes_ours(backbone, before):
    kind, ours = backbone
    theirs = {super_gradients_name(name): array for name, array in ours.items()}
    assert len(theirs) == len(ours)
    wrapped = "module." if before.startswith("module.") else ""
    rest = (wrapped + "decoder.up_stages.0.conv_out.seq.conv.weight",) if before else ()
    renamed = to_ours(whole_model(theirs, before, rest))
    assert_same(renamed.state, ours)
    assert renamed.source == "super-gradients' STDC backbone" and describe(renamed.state)["backbone"] == kind
    assert ("decoder.up_stages.0.conv_out.seq.conv.weight" in renamed.ignored) == bool(before)


def test_the_backbone_inside_stdc_seg_becomes_ours(backbone):
    kind, ours = backbone
    stages = sorted({re.match(r"stages\.[01]\.|stages\.\d\.\d+\.", name).group() for name in ours})
    layers = {stage: number for number, stage in enumerate(stages)}
    theirs = {authors_name(name, layers): array for name, array in ours.items()}
    # Its context path keeps the first stages under a second name, and the classifier of ImageNet.
    rest = ("cp.backbone.x2.0.conv.weight", "cp.backbone.fc.weight", "cp.arm16.conv.conv.weight", "ffm.conv1.weight")
    renamed = to_ours(whole_model(theirs, "cp.backbone.", rest))
    assert_same(renamed.state, ours)
    assert renamed.source == "the STDC authors' PyTorch backbone" and describe(renamed.state)["backbone"] == kind
    assert {"cp.arm16.conv.conv.weight", "ffm.conv1.weight"} <= set(renamed.ignored)


@pytest.mark.parametrize("key", ["net", "ema_net", "model", "state_dict"])
def test_a_checkpoint_with_the_model_inside_starts_a_network(tmp_path, key):
    ours = state_of(stdc.STDCNet813())
    theirs = {super_gradients_name(name): array for name, array in ours.items()}
    path = str(tmp_path / "average_model.pth")
    other = {"net": {"a": np.zeros(1, np.float32)}} if key == "ema_net" else {}  # the average is what counts
    write_zip(path, {"epoch": 3, **other, key: whole_model(theirs, "encoder.backbone.")})
    network = pp_liteseg_t(num_classes=3)
    report = load_weights(network, path)
    assert report.source == "super-gradients' STDC backbone, backbone only" and len(report.loaded) == len(ours)
    assert_same({n[len("backbone.") :]: a for n, a in state_of(network).items() if n.startswith("backbone.")}, ours)
    with pytest.raises(WeightsError, match="its backbone is STDC1 .*, the model's is STDC2"):
        load_weights(pp_liteseg_b(num_classes=3), path)
    with pytest.raises(WeightsError, match="lacks .* of the model's arrays"):  # no decoder: nothing to predict with
        load_weights(network, path, strict=True)

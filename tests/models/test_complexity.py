import re

import numpy as np
import paddle
import pytest
from reference import paddleseg_model

from ppliteseg_paddle import PPLiteSegNet, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.models.complexity import in_training, measure
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.stdc import STDCNet813


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset, build, parameters, macs", [("T", pp_liteseg_t, 8.04, 11.47), ("B", pp_liteseg_b, 12.25, 19.29)]
)
def test_the_figures_are_those_that_paddle_counts_in_paddlesegs_model(preset, build, parameters, macs, capsys):
    theirs = paddleseg_model(preset, num_classes=19)
    theirs.eval()
    counted = paddle.flops(theirs, [1, 3, 512, 1024])
    weights = int(re.search(r"Total Params: (\d+)", capsys.readouterr().out).group(1))
    total = measure(build(num_classes=19), (1, 3, 512, 1024))["total"]
    assert (total["macs"], total["parameters"]) == (counted, weights)
    assert (round(total["parameters"] / 1e6, 2), round(total["macs"] / 1e9, 2)) == (parameters, macs)


def test_parts_add_up_and_auxiliary_heads_stand_apart():
    model = pp_liteseg_t(num_classes=5)
    result = measure(model, (1, 3, 64, 96))
    parts = dict(result["parts"])
    auxiliary = parts.pop("auxiliary seg_heads")
    assert list(parts) == ["backbone", "neck", "head", "seg_head"]
    for key in ("parameters", "learned", "macs", "conv_macs"):
        assert result["total"][key] == sum(part[key] for part in parts.values())
    assert auxiliary["macs"] == 0 and auxiliary["parameters"] > 0
    everything = sum(int(np.prod(tensor.shape)) for tensor in model.state_dict().values())
    assert result["total"]["parameters_in_training"] == everything
    assert parts["backbone"]["learned"] == sum(
        int(np.prod(p.shape)) for p in model.backbone.parameters() if not p.stop_gradient
    )


def test_one_convolution_counts_as_by_hand():
    part = measure(pp_liteseg_t(num_classes=5), (2, 3, 64, 96))["parts"]["seg_head"]
    cells = 2 * 8 * 12
    assert part["conv_macs"] == cells * (32 * 32 * 9 + 32 * 5)
    assert part["macs"] == part["conv_macs"] + 2 * cells * 32


def test_in_training_all_segmentation_heads_count():
    model = pp_liteseg_t(num_classes=5)
    found, parts = in_training(model, (2, 3, 64, 96)), measure(model, (2, 3, 64, 96))
    deeper = 2 * 4 * 6 * (64 * 64 * 9 + 64 * 5) + 2 * 2 * 3 * (128 * 64 * 9 + 64 * 5)
    assert found["macs"] == parts["total"]["conv_macs"] + deeper
    results = 2 * 4 * 6 * (64 + 64 + 5) + 2 * 2 * 3 * (64 + 64 + 5)  # of the convolution, batch norm, the classifier
    assert found["outputs"] == parts["memory"]["kept_for_gradients"] // 4 + results


def test_features_have_shape_and_stride():
    rows = {row["name"]: row for row in measure(pp_liteseg_t(num_classes=5), (1, 3, 90, 128))["features"]}
    assert rows["backbone.4"] == {"name": "backbone.4", "shape": [1, 1024, 3, 4], "stride": [30.0, 32.0]}
    assert rows["neck"]["shape"] == [1, 128, 3, 4] and rows["head.0"]["shape"] == [1, 32, 12, 16]
    assert list(rows) == [f"backbone.{i:d}" for i in range(5)] + ["neck"] + [f"head.{i:d}" for i in range(3)]


def test_memory_is_in_bytes_of_float32():
    result = measure(pp_liteseg_t(num_classes=5), (1, 3, 64, 96))
    memory = result["memory"]
    assert memory["weights"] == 4 * result["total"]["parameters"]
    # The second backbone convolution's input at stride 2 and the normalisation after it are the largest neighbours.
    assert memory["largest_layer"] == 4 * 2 * 32 * 32 * 48
    assert memory["kept_for_gradients"] > memory["largest_layer"]


def test_a_model_with_two_fusions_is_measured_too():
    model = PPLiteSegNet(
        3, STDCNet813(), SPPM(1024), FLDHead([256, 512], 128, [32, 64]), [32, 64], backbone_indices=[2, 3, 4]
    )
    result = measure(model, (1, 3, 64, 64))
    assert [row["name"] for row in result["features"]][-2:] == ["head.0", "head.1"]
    assert result["total"]["macs"] < measure(pp_liteseg_t(3), (1, 3, 64, 64))["total"]["macs"]

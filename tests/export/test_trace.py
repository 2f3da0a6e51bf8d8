"""How a model becomes a graph: ours without Paddle's rewriting of Python code, a user's layers with it."""

import json
import re
from dataclasses import replace

import numpy as np
import paddle  # after ours
import pytest
from exported import LABELS, TRANSFORMS

from ppliteseg_paddle import pp_liteseg_t
from ppliteseg_paddle.export import trace
from ppliteseg_paddle.export.describe import describe
from ppliteseg_paddle.export.options import ExportOptions


class BySign(paddle.nn.Layer):
    """Decides by its input's values."""

    def forward(self, x):
        if paddle.mean(x) > 0:
            return x + 1.0
        return x - 1.0


class WithUsersLayer(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem, self.by_sign = paddle.nn.Conv2D(3, LABELS.num_classes, 1), BySign()

    def forward(self, x):
        return [self.by_sign(self.stem(x))]


def artifact_of(model, **options):
    return describe(model, ExportOptions(LABELS, TRANSFORMS, output_op="none", **options))


def operators(form, artifact, folder):
    """The graph's operators, in their order."""
    folder.mkdir()
    file = folder / trace.save_graph(form, artifact, str(folder))["model"]
    if file.suffix == ".json":
        return re.findall(r'"#": ?"([\w.]+)"', json.dumps(json.loads(file.read_text())))
    return [op.type for op in paddle.static.deserialize_program(file.read_bytes()).global_block().ops]


@pytest.mark.parametrize("shape", [None, (1, 3, 96, 160)], ids=["any size", "one size"])
def test_our_models_graph_is_the_one_that_the_rewriting_gives(shape, tmp_path):
    model = pp_liteseg_t(num_classes=LABELS.num_classes)
    artifact = artifact_of(model, input_shape=shape)
    form = trace.inference_copy(model, artifact)
    rewritten = trace.GraphForm(form.model, form.output_op, LABELS.num_classes, form.with_logits)
    assert type(form) is not trace.GraphForm
    found, expected = (operators(each, artifact, tmp_path / type(each).__name__) for each in (form, rewritten))
    assert len(found) > 100 and found == expected


def test_a_users_layer_that_decides_by_values_decides_in_the_graph(tmp_path):
    model = WithUsersLayer()
    model.eval()
    artifact = replace(artifact_of(model), logits=None)
    files = trace.save_graph(trace.inference_copy(model, artifact), artifact, str(tmp_path))
    graph = paddle.jit.load(str(tmp_path / files["model"].rsplit(".", 1)[0]))
    for sign in (-1.0, 1.0):
        x = paddle.full([1, 3, 8, 8], sign)
        np.testing.assert_allclose(graph(x).numpy(), model(x)[0].numpy(), rtol=1e-5)


def test_hooks_of_a_user_keep_the_rewriting():
    model = pp_liteseg_t(num_classes=LABELS.num_classes)
    model.backbone.register_forward_post_hook(lambda layer, given, made: None)
    assert type(trace.inference_copy(model, artifact_of(model))) is trace.GraphForm

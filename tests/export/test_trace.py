"""How a model becomes a graph: ours without Paddle's rewriting of Python code, a user's layers with it."""

import contextlib
import json
import re
from dataclasses import replace

import numpy as np
import paddle  # after ours
import pytest
from exported import LABELS, TRANSFORMS
from paddleseg.models.layers import SeparableConvBNReLU

from ppliteseg_paddle import compat, pp_liteseg_t
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
    paddle.enable_static()  # Paddle 2.6 reads a program there only
    try:
        return [op.type for op in paddle.static.deserialize_program(file.read_bytes()).global_block().ops]
    finally:
        paddle.disable_static()


@pytest.mark.parametrize("shape", [None, (1, 3, 96, 160)], ids=["any size", "one size"])
def test_our_models_graph_is_the_one_that_the_rewriting_gives(shape, tmp_path):
    model = pp_liteseg_t(num_classes=LABELS.num_classes)
    artifact = artifact_of(model, input_shape=shape)
    form = trace.inference_copy(model, artifact)
    rewritten = trace.GraphForm(form.model, form.output_op, LABELS.num_classes, form.with_logits)
    assert type(form) is not trace.GraphForm
    found, expected = (operators(each, artifact, tmp_path / type(each).__name__) for each in (form, rewritten))
    assert len(found) > 100 and found == expected


def without_attributes(operators):
    """Paddle 3.2 names the layer of each operator in an attribute, which quick tracing omits."""
    return [name for name in operators if not name.startswith("0.a_")]


class Twice(paddle.nn.Layer):
    """PaddleSeg's layers twice, whose methods Paddle rewrites, and a layer whose branch depends on the object."""

    def __init__(self):
        super().__init__()
        self.blocks = paddle.nn.LayerList([SeparableConvBNReLU(3, LABELS.num_classes, 3), Branch(True), Branch(False)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return [x]


class Branch(paddle.nn.Layer):
    def __init__(self, negative):
        super().__init__()
        self.negative = negative

    def forward(self, x):
        if self.negative:
            return -x
        return x * 3.0


def test_quick_tracing_changes_no_operator_and_converts_a_method_once(tmp_path, monkeypatch):
    from paddle.jit.dy2static import program_translator

    converted = []
    convert = program_translator.FunctionCache._convert
    monkeypatch.setattr(
        program_translator.FunctionCache, "_convert", lambda cache, f: converted.append(f) or convert(cache, f)
    )
    model = Twice()
    artifact = replace(artifact_of(model), logits=None)
    found = without_attributes(operators(trace.inference_copy(model, artifact), artifact, tmp_path / "quick"))
    assert sum(f.__qualname__ == "Branch.forward" for f in converted) == 1
    monkeypatch.setattr(compat, "quick_tracing", contextlib.nullcontext)
    converted.clear()
    plain = operators(trace.inference_copy(model, artifact), artifact, tmp_path / "plain")
    assert without_attributes(plain) == found
    assert sum(f.__qualname__ == "Branch.forward" for f in converted) == 2, "Paddle's cache hits: drop quick_tracing"
    assert sum("scale" in op for op in found) >= 2


def test_after_quick_tracing_paddle_is_as_it_was():
    from paddle.jit.dy2static import convert_call_func, program_translator

    before = program_translator._FUNCTION_CACHE.convert_with_cache, convert_call_func.is_unsupported
    with pytest.raises(ZeroDivisionError), compat.quick_tracing():
        assert convert_call_func.is_unsupported is not before[1] and convert_call_func.is_unsupported(np.copy)
        assert not convert_call_func.is_unsupported(BySign().forward)
        raise ZeroDivisionError
    after = program_translator._FUNCTION_CACHE.convert_with_cache, convert_call_func.is_unsupported
    assert after == before


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

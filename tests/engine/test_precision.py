"""Mixed precision: what the loop is told, and what is refused."""

import contextlib
from types import SimpleNamespace

import paddle
import pytest
from loop_run import a_run, evaluation

from ppliteseg_paddle.engine.loop import precision
from ppliteseg_paddle.engine.loop.evaluation import fast_and_noted
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.fused import conv_bn, onednn


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("fp16", {}, "--precision fp16 needs a GPU, but the device is cpu, where training has fp32 and bf16"),
        ("bf16", {"training": False}, "--precision bf16 needs a GPU, but the device is cpu, where evaluation is fp32"),
        ("bf16", {"amp_level": "O2"}, "where bf16 keeps weights in fp32: use --amp_level O1"),
    ],
)
def test_what_no_cpu_computes_is_refused_in_one_line(name, options, text):
    with pytest.raises(ConfigError, match=text):
        precision.check_precision(name, "cpu", **options)
    precision.check_precision("fp32", "cpu")


@pytest.mark.parametrize(
    "library, text",
    [
        (SimpleNamespace(bf16=False), "needs AVX512_BF16 or AMX, but this one has .+: use --precision fp32"),
        (None, "needs Paddle's oneDNN, which is off .PPLITESEG_ONEDNN=0. or missing .+: use --precision fp32"),
        (SimpleNamespace(bf16=True), None),
    ],
)
def test_bf16_on_a_cpu_depends_on_the_processor(monkeypatch, library, text):
    monkeypatch.setattr(onednn, "library", lambda: library)
    with pytest.raises(ConfigError, match=text) if text else contextlib.nullcontext():
        precision.check_precision("bf16", "cpu")


def test_on_a_cpu_the_loop_trains_in_fp32_around_convolutions_in_bf16():
    assert precision.precision_of_the_loop("bf16") == "fp32"
    with precision.training_in("bf16"):
        assert conv_bn._bf16.get()
        with precision.autocast("bf16"):  # evaluations, and the statistics that are counted for them
            assert not conv_bn._bf16.get()


def test_a_gpu_without_bf16_is_refused_with_what_it_has(monkeypatch):
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda index: "Tesla T4")
    with pytest.raises(
        ConfigError, match=r"the device gpu:1 \(Tesla T4\) cannot compute in it. Use --precision fp16 or fp32."
    ):
        precision.check_precision("bf16", "gpu:1")
    precision.check_precision("fp16", "gpu:1")


def test_the_loop_trains_in_bf16_without_a_loss_scale_where_it_asks_for_fp16(tmp_path, monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    run = a_run(tmp_path, precision="bf16")
    assert precision.precision_of_the_loop("bf16") == "fp16"
    for replace in (precision.auto_cast, precision.decorate):
        asked = replace(run, lambda **arguments: arguments)(level="O1", enable=True)
        assert asked == {"level": "O1", "enable": True, "dtype": "bfloat16"}
    scaler = precision.loss_scaler(run, paddle.amp.GradScaler)(init_loss_scaling=1024)
    loss = paddle.ones([1])
    assert scaler.scale(loss) is loss


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_other_precisions_stay_the_loops_own(tmp_path, name):
    run, original = a_run(tmp_path, precision=name), object()
    assert precision.precision_of_the_loop(name) == name
    for replace in (precision.auto_cast, precision.decorate):
        assert replace(run, original) is original


def test_the_loops_evaluation_computes_in_bf16_too(tmp_path):
    """The loop, which knows no bf16, asks for fp16 there."""
    asked = []

    def evaluate(model, dataset, **options):
        asked.append(options["precision"])
        return {**evaluation(0.5), "class_precision": [1.0, 1.0], "images": 1, "dice": 0.5}

    run = a_run(tmp_path, precision="bf16", evaluate=evaluate)
    fast_and_noted(run, None)("model", "data", precision="fp16", amp_level="O1")
    assert asked == ["bf16"]

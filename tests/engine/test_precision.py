"""Mixed precision: what the loop is told, and what is refused."""

import paddle
import pytest

from ppliteseg_paddle.engine.loop import precision
from ppliteseg_paddle.errors import ConfigError


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_mixed_precision_on_the_cpu_is_refused_in_one_line(name):
    with pytest.raises(
        ConfigError, match=f"--precision {name} needs a GPU, but the device is cpu, where Paddle trains in fp32 only"
    ):
        precision.check_precision(name, "cpu")
    precision.check_precision("fp32", "cpu")


def test_a_gpu_without_bf16_is_refused_with_what_it_has(monkeypatch):
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda index: "Tesla T4")
    with pytest.raises(
        ConfigError, match=r"the device gpu:1 \(Tesla T4\) cannot compute in it. Use --precision fp16 or fp32."
    ):
        precision.check_precision("bf16", "gpu:1")
    precision.check_precision("fp16", "gpu:1")


def test_the_loop_trains_in_bf16_without_a_loss_scale_where_it_asks_for_fp16(monkeypatch):
    asked = []
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **arguments: asked.append(arguments))
    before = paddle.amp.GradScaler
    assert precision.precision_of_the_loop("bf16") == "fp16"
    with precision.loop_in_bf16("bf16"):
        paddle.amp.auto_cast(level="O1", enable=True)
        scaler = paddle.amp.GradScaler(init_loss_scaling=1024)
        loss = paddle.ones([1])
        assert scaler.scale(loss) is loss
    assert asked == [{"level": "O1", "enable": True, "dtype": "bfloat16"}]
    assert paddle.amp.GradScaler is before


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_other_precisions_stay_the_loops_own(name):
    auto_cast = paddle.amp.auto_cast
    assert precision.precision_of_the_loop(name) == name
    with precision.loop_in_bf16(name):
        assert paddle.amp.auto_cast is auto_cast

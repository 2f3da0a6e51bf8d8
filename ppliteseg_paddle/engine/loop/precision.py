"""Mixed precision: fp16 as PaddleSeg's loop has it, bf16 beside it, and a clear refusal where a device has neither.

On a CPU, where Paddle's own mixed precision has no effect, bf16 is that of oneDNN's convolutions in training steps
(`models.fused.conv_bn.convolutions_in`), while the loop trains in fp32. Evaluations and their statistics are fp32, as
inference is.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle import environment
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import ConfigError

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def check_precision(precision: str, device: str, amp_level: str = "O1", training: bool = True) -> None:
    """See that the device set by `select_device` computes in this precision: on others Paddle fails in the middle of
    the first step, or computes in fp32 with a warning only.

    Args: training: whether a model is trained; on a CPU, evaluations are fp32 only.
    Raises: ConfigError
    """
    if precision == "fp32":
        return
    import paddle

    if device.startswith("cpu"):
        return _check_cpu(precision, device, amp_level, training)
    supported = {"fp16": paddle.amp.is_float16_supported, "bf16": paddle.amp.is_bfloat16_supported}[precision]
    if not supported():
        name = (
            f" ({paddle.device.cuda.get_device_name(int(device.partition(':')[2] or 0))})"
            if device.startswith("gpu")
            else ""
        )
        raise ConfigError(
            f"--precision {precision}: the device {device}{name} cannot compute in it. Use "
            f"{('--precision fp16 or fp32' if precision == 'bf16' else '--precision fp32')}."
        )


def _check_cpu(precision: str, device: str, amp_level: str, training: bool) -> None:
    if precision != "bf16" or not training:
        allowed = "training has fp32 and bf16" if training else "evaluation is fp32"
        raise ConfigError(
            f"--precision {precision} needs a GPU, but the device is {device}, where {allowed}: use --precision fp32."
        )
    if amp_level != "O1":
        raise ConfigError(
            f"--amp_level {amp_level} needs a GPU, but the device is {device}, where bf16 keeps weights in fp32: use "
            "--amp_level O1."
        )
    from ppliteseg_paddle.models.fused import onednn

    found = onednn.library()
    if found is None:
        raise ConfigError(
            "--precision bf16 on a CPU needs Paddle's oneDNN, which is off (PPLITESEG_ONEDNN=0) or missing "
            "(`ppliteseg doctor` tells): use --precision fp32."
        )
    if not found.bf16:
        raise ConfigError(
            "--precision bf16 on a CPU needs AVX512_BF16 or AMX, but this one has "
            f"{environment.instruction_sets()}: use --precision fp32."
        )


def training_in(precision: str) -> contextlib.AbstractContextManager:
    """What a run's training steps on a CPU stand in; without effect on other devices."""
    from ppliteseg_paddle.models.fused.conv_bn import convolutions_in

    return convolutions_in(precision)


def autocast(precision: str, amp_level: str = "O1") -> contextlib.AbstractContextManager:
    """Paddle's mixed precision as PaddleSeg's loop switches it on; nothing for fp32. On a CPU always fp32."""
    import paddle

    if paddle.get_device() == "cpu":
        return training_in("fp32")
    if precision == "fp32":
        return contextlib.nullcontext()
    # The lists are those with which PaddleSeg's loop trains.
    return paddle.amp.auto_cast(
        level=amp_level,
        enable=True,
        dtype=DTYPES[precision],
        custom_black_list={"bilinear_interp_v2"},
        custom_white_list={"elementwise_add", "batch_norm", "sync_batch_norm"},
    )


# --------------------------------------------------------------------------------------------
# bf16 in the loop, which trains in fp16 or not at all: what it asks of `paddle.amp` in fp16 is done in bf16, without a
# loss scale, as bf16 has the range of fp32
# --------------------------------------------------------------------------------------------
def precision_of_the_loop(precision: str) -> str:
    """What to tell PaddleSeg's loop, which knows fp32 and fp16."""
    import paddle

    if precision != "bf16":
        return precision
    return "fp32" if paddle.get_device() == "cpu" else "fp16"


def auto_cast(run: LoopRun, original: Callable) -> Callable:
    return original if run.precision != "bf16" else functools.partial(original, dtype="bfloat16")


def decorate(run: LoopRun, original: Callable) -> Callable:
    return original if run.precision != "bf16" else functools.partial(original, dtype="bfloat16")


def loss_scaler(run: LoopRun, original: Callable) -> Callable:
    """`GradScaler` that begins with the loss scale of the checkpoint; for bf16 one that does nothing.

    Reason: the loop does not save its scale, and bf16 needs none.
    """

    def make(*args: Any, **kwargs: Any) -> Any:
        if run.precision == "bf16":
            return original(enable=False)
        run.loss_scaler = original(*args, **kwargs)
        if run.loss_scale:
            run.loss_scaler.load_state_dict({**run.loss_scale, "scale": np.array(run.loss_scale["scale"], np.float32)})
        return run.loss_scaler

    return make


def scale_state(scaler: Any) -> dict[str, Any] | None:
    """The state of a loss scale as plain numbers; None without one."""
    state = scaler.state_dict() if scaler is not None else {}
    return {**state, "scale": np.ravel(state["scale"]).tolist()} if state else None

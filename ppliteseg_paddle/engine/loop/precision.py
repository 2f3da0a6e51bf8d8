"""Mixed precision: fp16 as PaddleSeg's loop has it, bf16 beside it, and a clear refusal where a device has neither."""

from __future__ import annotations

import contextlib

from ppliteseg_paddle.engine.loop.surroundings import replaced
from ppliteseg_paddle.errors import ConfigError

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def check_precision(precision: str, device: str) -> None:
    """See that the device set by `select_device` computes in this precision: on others Paddle fails in the middle of
    the first
    step, or computes in fp32 with a warning only, as on every CPU (Paddle 2.6 to 3.3, fp16 and bf16 alike).

    Raises: ConfigError
    """
    if precision == "fp32":
        return
    import paddle

    if device.startswith("cpu"):
        raise ConfigError(
            f"--precision {precision} needs a GPU, but the device is {device}, where Paddle trains in fp32 only: use "
            "--precision fp32."
        )
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


def autocast(precision: str, amp_level: str = "O1"):
    """Paddle's mixed precision as PaddleSeg's loop switches it on; nothing for fp32."""
    import paddle

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


def precision_of_the_loop(precision: str) -> str:
    """What to tell PaddleSeg's loop, which knows fp32 and fp16; `loop_in_bf16` does the rest."""
    return "fp16" if precision == "bf16" else precision


@contextlib.contextmanager
def loop_in_bf16(precision: str):
    """Reason: the loop trains in fp16 or not at all. For bf16 what it asks of `paddle.amp` in fp16 is done in bf16, and
    without a
    loss scale: bf16 has the range of fp32."""
    if precision != "bf16":
        yield
        return
    import paddle

    auto_cast, scaler, decorate = paddle.amp.auto_cast, paddle.amp.GradScaler, paddle.amp.decorate
    with (
        replaced(paddle.amp, "auto_cast", lambda *args, **kwargs: auto_cast(*args, **{**kwargs, "dtype": "bfloat16"})),
        replaced(paddle.amp, "GradScaler", lambda *args, **kwargs: scaler(enable=False)),
        replaced(paddle.amp, "decorate", lambda *args, **kwargs: decorate(*args, **{**kwargs, "dtype": "bfloat16"})),
    ):
        yield

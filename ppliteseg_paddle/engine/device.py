"""Where a model runs: the choice of a device, and a clear refusal of one that is not there."""

from __future__ import annotations

from ppliteseg_paddle.environment import use_all_cores
from ppliteseg_paddle.errors import ConfigError, suggest

KINDS = ("cpu", "gpu", "xpu", "npu", "mlu")


def select_device(name: str | None = None) -> tuple[str, str]:
    """Set Paddle's device.

    Args:
        name: cpu, gpu, gpu:1, xpu, npu, mlu; None takes a GPU where there is one, else the CPU.

    Returns: what was set ("cpu", "gpu", "gpu:1"), and in words why.
    Raises: ConfigError: if the name is unknown, or this Paddle or machine has no such device.
    """
    import paddle

    name = (name or "").strip().lower()
    kind, _, index = name.partition(":")
    if name and kind not in KINDS:
        raise ConfigError(f"unknown device '{name}'.{suggest(kind, KINDS)}")
    if ":" in name and (kind == "cpu" or not index.isdigit()):
        raise ConfigError(
            f"unknown device '{name}': give "
            f"{('cpu' if kind == 'cpu' else f'{kind}, or with a number, as in {kind}:0')}."
        )
    lack = _lack_of_gpu(paddle)
    if not name:
        chosen, why = ("cpu", lack) if lack else ("gpu", _gpu_name(paddle, 0))
    elif kind == "gpu":
        if lack:
            raise ConfigError(f"--device {name}: {lack}. Use --device cpu{_gpu_advice(paddle)}.")
        if index and int(index) >= paddle.device.cuda.device_count():
            raise ConfigError(
                f"--device {name}: there are {paddle.device.cuda.device_count():d} GPUs, so the last is "
                f"gpu:{paddle.device.cuda.device_count() - 1:d}."
            )
        chosen, why = name, _gpu_name(paddle, int(index or 0))
    elif kind != "cpu" and not _has_other(paddle, kind):
        raise ConfigError(
            f"--device {name}: the installed Paddle {paddle.__version__} was built without it. Use --device cpu."
        )
    else:
        chosen, why = name, "as asked"
    paddle.set_device(chosen)
    if chosen == "cpu":
        use_all_cores()
    return chosen, why


def device_line(chosen: str, why: str) -> str:
    """What a person reads about the choice."""
    return f"device: {chosen} ({why})"


def _lack_of_gpu(paddle) -> str:
    if not paddle.is_compiled_with_cuda():
        return f"the installed Paddle {paddle.__version__} is a CPU build"
    if paddle.device.cuda.device_count() < 1:
        return f"Paddle {paddle.__version__} finds no GPU"
    return ""


def _gpu_advice(paddle) -> str:
    return "" if paddle.is_compiled_with_cuda() else ", or install a GPU build: pip install '.[gpu]'"


def _gpu_name(paddle, index: int) -> str:
    return str(paddle.device.cuda.get_device_name(index))


def _has_other(paddle, kind: str) -> bool:
    if kind == "xpu":
        return paddle.is_compiled_with_xpu()
    return kind in paddle.device.get_all_custom_device_type()

"""The cost of an evaluation beside its forward pass: PaddleSeg's count of pixels and ours, round-robin, on the same
predictions."""

from __future__ import annotations

import importlib.util
from typing import Any, Callable

from ppliteseg_paddle.benchmark.timing import measure_round_robin, median, timed


def measure(
    model: Any = None,
    size: tuple[int, int] = (480, 360),
    num_classes: int = 11,
    repeats: int | None = 20,
    warmup: int | None = 3,
) -> dict[str, Any]:
    """Time forward pass, PaddleSeg's metric and ours on one image, round-robin on the device that Paddle is set to.

    Args:
        model: takes (1, 3, H, W) and returns [logits]; None for PP-LiteSeg-T.
        size: width and height; num_classes: of the random labels, and of the model.
        repeats, warmup: as in `timing.measure_round_robin`.

    Returns: seconds (medians) "forward", with the choice of the best class, "metric_paddleseg", "metric_ours"; shares
        of the forward pass "share_paddleseg", "share_ours"; "times_faster".
    """
    import numpy as np
    import paddle

    from ppliteseg_paddle.engine.metrics import confusion_on_device
    from ppliteseg_paddle.registry import register

    register()
    if model is None:
        from ppliteseg_paddle.models.pp_liteseg import pp_liteseg_t

        model = pp_liteseg_t(num_classes=num_classes)
    was_training = model.training
    model.eval()
    rng = np.random.default_rng(0)
    image = paddle.to_tensor(rng.standard_normal((1, 3, size[1], size[0]), dtype=np.float32))
    label = rng.integers(0, num_classes, (1, 1, size[1], size[0])).astype(np.uint8)
    label[..., : size[1] // 20, :] = 255
    label, wide = paddle.to_tensor(label), paddle.to_tensor(label.astype(np.int64))
    baseline = paddlesegs_areas()

    def forward() -> Any:
        return paddle.argmax(model(image)[0], axis=1, keepdim=True, dtype="int32").numpy()

    with paddle.no_grad():
        pred = paddle.to_tensor(forward())
        matrix, areas = (
            confusion_on_device(pred, label, num_classes).numpy(),
            [area.numpy() for area in baseline(pred, wide, num_classes)],
        )
        if not all(
            (ours == theirs).all() for ours, theirs in zip((matrix.diagonal(), matrix.sum(0), matrix.sum(1)), areas)
        ):
            raise AssertionError("PaddleSeg's counts and ours differ, so their times say nothing.")
        measured = measure_round_robin(
            {
                "forward": timed(forward),
                "metric_paddleseg": timed(lambda: [area.numpy() for area in baseline(pred, wide, num_classes)]),
                "metric_ours": timed(lambda: confusion_on_device(pred, label, num_classes).numpy()),
            },
            warmup,
            repeats,
        )
    if was_training:
        model.train()
    seconds = {name: median(each.seconds["total"]) for name, each in measured.items()}
    return {
        **seconds,
        "share_paddleseg": seconds["metric_paddleseg"] / seconds["forward"],
        "share_ours": seconds["metric_ours"] / seconds["forward"],
        "times_faster": seconds["metric_paddleseg"] / seconds["metric_ours"],
    }


def paddlesegs_areas() -> Callable[..., Any]:
    """PaddleSeg's own `calculate_area`, made runnable where it is not: its sums get the dimension that they had before
    Paddle 2.5.

    Then a second copy of its module is loaded; the one in use, with our fix, is not changed.
    """
    import paddle
    from paddleseg.utils import metrics

    if metrics.calculate_area.__module__ == metrics.__name__:  # `compat` has found that it runs
        return metrics.calculate_area
    spec = importlib.util.find_spec(metrics.__name__)
    assert spec is not None and spec.loader is not None  # noqa: S101 - it has been imported
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Paddle:
        def __getattr__(self, name: str) -> Any:
            return getattr(paddle, name)

        @staticmethod
        def sum(values: Any) -> Any:
            return paddle.sum(values).reshape([1])

    module.paddle = Paddle()
    return module.calculate_area

import numpy as np
import paddle

from ppliteseg_paddle.benchmark.studies.evaluation import measure, paddlesegs_areas
from ppliteseg_paddle.registry import register


class Answers(paddle.nn.Layer):
    def forward(self, image):
        return [paddle.concat([image, -image], axis=1)]


def test_forward_and_both_metrics_are_timed_and_set_against_each_other():
    model = Answers()
    result = measure(model, size=(16, 12), num_classes=6, repeats=2, warmup=0)
    assert model.training
    assert result["share_ours"] == result["metric_ours"] / result["forward"]
    assert result["share_paddleseg"] == result["metric_paddleseg"] / result["forward"]
    assert result["times_faster"] == result["metric_paddleseg"] / result["metric_ours"]


def test_paddlesegs_own_count_runs_and_the_fixed_one_stays_in_use():
    register()
    from paddleseg.utils import metrics

    used = metrics.calculate_area
    areas = paddlesegs_areas()
    assert areas.__module__ == "paddleseg.utils.metrics" and metrics.calculate_area is used
    pred, label = paddle.to_tensor(np.array([[[0, 1, 1]]])), paddle.to_tensor(np.array([[[0, 1, 255]]]))
    assert [area.numpy().tolist() for area in areas(pred, label, 2)] == [[1, 1], [1, 1], [1, 1]]

import json

import numpy as np

from exported import exported_predictor, photograph
from ppliteseg_paddle.benchmark.protocols import STAGES, latency


def test_latency_times_three_stages_together_and_apart():
    seen = []
    result = latency(exported_predictor(), photograph(64, 96), warmup=1, repeats=4, progress=lambda done, of: seen.append((done, of)))
    assert tuple(result["stages"]) == STAGES
    assert result["repeats"] == 4 and result["warmup"] == 1 and seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert result["image_size"] == [96, 64] and result["input_shape"] == [1, 3, 64, 96] and result["batch_size"] == 1
    means = [result["stages"][stage]["mean_ms"] for stage in STAGES]
    np.testing.assert_allclose(sum(means[:3]), means[3], rtol=1e-6)
    assert result["latency_ms"] == result["stages"]["total"]["median_ms"] > 0
    assert result["fps"] == 1000 / result["latency_ms"]
    for values in result["stages"].values():
        assert set(values) == {"median_ms", "mean_ms", "p90_ms", "p99_ms", "min_ms", "max_ms", "std_ms", "spread", "fps"}
    assert result["backend"]["version"] and result["model"]["type"] == "PPLiteSegNet"
    assert json.loads(json.dumps(result)) == result

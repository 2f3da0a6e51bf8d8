"""The benchmark of `serve`: what it counts, and one short round against a real server."""

import pytest
from exported import small_folder

from ppliteseg_paddle.benchmark.studies import serving
from ppliteseg_paddle.errors import ConfigError


def test_rates_are_compared_round_by_round_and_latencies_over_all_requests():
    rounds = [serving.Round(10.0, 9.0, [0.1] * 98), serving.Round(20.0, 20.0, [0.1]), serving.Round(1.0, 2.0, [0.9])]
    found = serving.summary(rounds)
    assert found["ratios"] == [0.9, 1.0, 2.0] and found["ratio"] == 1.0
    assert (found["requests"], found["stream_images_per_second"], found["server_images_per_second"]) == (100, 10.0, 9.0)
    assert found["p50_ms"] == pytest.approx(100) and found["p99_ms"] == pytest.approx(108)  # between the two largest
    assert found["p99_over_p50"] == pytest.approx(1.08)


@pytest.mark.slow
def test_a_server_is_started_measured_and_ended():
    result = serving.run(str(small_folder()), "paddle", clients=2, rounds=1, seconds=0.3)
    assert result["requests"] >= 2 and len(result["ratios"]) == 1
    assert result["backend"]["name"] == "paddle" and result["machine"]["processor"]
    assert serving.table(result).splitlines()[-1].startswith(f"| 2 | {result['requests']:d} |")


@pytest.mark.slow
def test_a_server_that_does_not_start_is_an_error(tmp_path):
    server = serving._server(str(tmp_path), "onnxruntime")
    with pytest.raises(ConfigError, match="the server did not start: run `ppliteseg serve"), server:
        pass

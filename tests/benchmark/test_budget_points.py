"""The choice for a budget against an independent reference: whatever mIoU may be true, given what is published."""

import itertools

import numpy as np
import pytest

from ppliteseg_paddle.benchmark.budget.points import LIMIT, Point, Ranking, reason_to_skip
from ppliteseg_paddle.benchmark.budget.search import SCALES, plan, sizes_of
from ppliteseg_paddle.deploy.runtimes import RUNTIMES

NETWORKS = ["T", "B"]
FIGURES = {"T": {0.5: 73.1, 0.75: 76.03, 1.0: 77.04}, "B": {0.5: 75.25, 0.75: 78.75, 1.0: 79.04}}
SIZES = {scale: (int(1024 * scale), int(2048 * scale)) for scale in SCALES}
POINTS = [
    Point(network, scale, SIZES[scale], precision, "r")
    for network in NETWORKS
    for scale in SCALES
    for precision in ("fp32", "bf16", "int8")
]
UNKNOWN = -1000.0


def worlds(figures):
    """mIoU of every point, as it may truly be: it grows with the input, published figures hold, INT8 loses the
    same in all points, at most one point, and BF16 no more than that, at most a fifth of one. With the extremes: all
    that is not known as low, or as high, as it can be."""
    rng = np.random.default_rng(1)
    for parts in itertools.product([(0.0,), (1.0,), (0.0, 0.5, 1.0), (0.2, 0.4)], repeat=len(NETWORKS)):
        true = {}
        for network, choices in zip(NETWORKS, parts):
            known, last = figures.get(network, {}), UNKNOWN
            for scale in SCALES:
                highest = min([miou for at, miou in known.items() if at >= scale], default=-UNKNOWN)
                part = rng.choice(choices)
                last = known.get(scale, highest if part == 1 else last + part * (highest - last))
                true[network, scale] = last
        for bf16, int8 in ((0.0, 0.0), (0.0, 1.0), (0.2, 0.2), (0.2, 1.0)):
            lost = {"fp32": 0.0, "bf16": bf16, "int8": int8}
            yield {point: true[point.network, point.scale] - lost[point.precision] for point in POINTS}


def reference_front(ms, true):
    def beaten(point):
        for other in ms:
            no_worse = ms[other] <= ms[point] and all(world[other] >= world[point] for world in true)
            if no_worse and (ms[other] < ms[point] or any(world[other] > world[point] for world in true)):
                return True
        return False

    return {point for point in ms if not beaten(point)}


def reference_best(ms, true, budget):
    """The one whose mIoU is highest where all that is not known turns out worst."""

    def rank(point):
        worst = min(world[point] for world in true)
        known = worst if worst > UNKNOWN / 2 else -np.inf
        size = point.size[0] * point.size[1]
        return known, size, NETWORKS.index(point.network), -["fp32", "bf16", "int8"].index(point.precision), -ms[point]

    return max((point for point in reference_front(ms, true) if ms[point] <= budget), key=rank, default=None)


@pytest.mark.parametrize("figures", [FIGURES, {}, {"T": FIGURES["T"]}, {"B": {1.0: 79.04}}])
def test_front_and_best_are_those_of_a_search_through_what_may_be_true(figures):
    true = list(worlds(figures))
    for seed in range(25):
        rng = np.random.default_rng(seed)
        chosen = [point for point in POINTS if rng.random() < 0.7]
        ms = {point: float(rng.integers(1, 30)) for point in chosen}  # few values, so that times are often equal
        ranking = Ranking(ms, figures, NETWORKS)
        assert set(ranking.front()) == reference_front(ms, true)
        assert ranking.front() == sorted(ranking.front(), key=ms.get)
        for budget in (0.5, 5.0, 12.0, 100.0):
            assert ranking.best(budget) == reference_best(ms, true, budget)
        assert ms[ranking.fastest()] == min(ms.values())


def test_what_is_beaten_is_beaten_by_a_point_of_the_front():
    rng = np.random.default_rng(0)
    ms = {point: float(rng.integers(1, 50)) for point in POINTS}
    ranking = Ranking(ms, FIGURES, NETWORKS)
    front = ranking.front()
    for point in set(POINTS) - set(front):
        assert any(ranking.beats(other, point) for other in front)


def point(network="T", scale=0.5, precision="fp32", backend="r"):
    return Point(network, scale, SIZES[scale], precision, backend)


def test_int8_counts_as_a_point_of_miou_less():
    larger, smaller = point(scale=1.0, precision="int8"), point(scale=0.75)
    best = lambda figures: Ranking({larger: 9.0, smaller: 9.0}, {"T": figures}, NETWORKS).best(10)  # noqa: E731
    assert best({0.75: 76.0, 1.0: 77.1}) == larger and best({0.75: 76.0, 1.0: 76.9}) == smaller


def test_equal_points_stand_both_on_the_front_and_the_first_is_best():
    both = {point(backend="a"): 5.0, point(backend="b"): 5.0}
    ranking = Ranking(both, FIGURES, NETWORKS)
    assert ranking.front() == list(both) and ranking.best(5.0) == point(backend="a")


def test_nothing_fits():
    ranking = Ranking({point(): 5.0, point("B"): 7.0}, FIGURES, NETWORKS)
    assert ranking.best(4.999) is None and ranking.fastest() == point()


# --------------------------------------------------------------------------------------------
# What is skipped
# --------------------------------------------------------------------------------------------
def skipped(candidate, ms, budget=10.0):
    return reason_to_skip(candidate, ms, budget, NETWORKS)


def test_a_series_ends_where_it_takes_several_budgets():
    slow = {point(scale=0.5): LIMIT * 10.0 + 1}
    assert skipped(point(scale=0.75), slow) == "T 1024x512 fp32 r took 31 ms already"
    assert skipped(point("B", 0.5), slow) and skipped(point("B", 1.0), slow)
    for other in (
        point(scale=0.375),
        point(scale=0.75, precision="int8"),
        point("B", 0.375),
        point(scale=1.0, backend="q"),
    ):
        assert skipped(other, slow) is None
    assert skipped(point(scale=0.75), {point(scale=0.5): LIMIT * 10.0}) is None
    assert skipped(point(scale=0.75), {point("B", 0.5): 99.0}) is None  # B's time tells nothing of T's


def test_the_slower_runtime_is_not_measured_on_larger_inputs():
    ms = {point(backend="a"): 10.0, point(backend="b"): 13.1}
    assert skipped(point(scale=0.75, backend="b"), ms) == "T 1024x512 fp32 a was 1.3 times as fast as b"
    assert skipped(point("B", 0.5, backend="b"), ms)
    for other in (
        point(scale=0.75, backend="a"),
        point(scale=0.375, backend="b"),
        point(backend="b", precision="int8"),
    ):
        assert skipped(other, ms) is None
    assert skipped(point(scale=0.75, backend="b"), {point(backend="a"): 10.0, point(backend="b"): 12.9}) is None


@pytest.mark.parametrize("budget", [3, 10, 30, 100, 300, 3000])
def test_skipping_loses_neither_the_best_point_nor_one_of_the_front_within_the_budget(budget):
    runtimes = [RUNTIMES["onnxruntime"], RUNTIMES["openvino"]]
    points = plan(NETWORKS, SIZES, runtimes, bf16=True)
    assert len(points) == 2 * 5 * (2 + 1 + 2)  # ONNX Runtime has no bf16
    assert len(plan(NETWORKS, SIZES, runtimes)) == 2 * 5 * (2 + 2)
    costs = {"T": 1.0, "B": 1.6, "fp32": 2.0, "bf16": 1.2, "int8": 0.7, "onnxruntime": 1.0, "openvino": 1.35}
    times = {
        each: 2 + each.pixels / 2**13 * costs[each.network] * costs[each.precision] * costs[each.backend]
        for each in points
    }
    measured = {}
    for each in points:
        if reason_to_skip(each, measured, budget, NETWORKS) is None:
            measured[each] = times[each]
    everything, some = (Ranking(each, FIGURES, NETWORKS) for each in (times, measured))
    assert some.best(budget) == everything.best(budget)
    within = lambda ranking: [each for each in ranking.front() if times[each] <= budget]  # noqa: E731
    assert within(some) == within(everything) and len(measured) < len(points)


def test_inputs_are_multiples_of_32_and_each_once():
    assert sizes_of((1024, 2048)) == SIZES
    assert sizes_of((96, 128)) == {0.25: (32, 32), 0.375: (32, 64), 0.5: (64, 64), 0.75: (64, 96), 1.0: (96, 128)}
    assert sizes_of((20, 40)) == {1.0: (32, 32)}
    for height, width in itertools.product((33, 360, 720, 1080), (64, 641, 1920)):
        sizes = sizes_of((height, width))
        assert len(set(sizes.values())) == len(sizes) and all(
            side % 32 == 0 for size in sizes.values() for side in size
        )

from ppliteseg_paddle.benchmark.studies.operators import _keep_min, by_operator


def test_the_minimum_time_of_a_node_counts_and_operators_are_summed_dearest_first():
    times = {}
    for node, operator, milliseconds in (
        ("a", "Conv", 9.0),
        ("a", "Conv", 2.0),
        ("a", "Conv", 4.0),
        ("b", "Conv", 1.0),
        ("c", "Resize", 1.0),
    ):
        _keep_min(times, node, operator, milliseconds)
    assert by_operator(times) == [
        {"operator": "Conv", "nodes": 2, "ms": 3.0, "share": 0.75},
        {"operator": "Resize", "nodes": 1, "ms": 1.0, "share": 0.25},
    ]
    assert by_operator({}) == []

"""What a version of TensorRT is asked for, without one."""

import dataclasses

import pytest

from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.deploy.tensorrt_plan import make_plan
from ppliteseg_paddle.errors import ArtifactError, DependencyError

RANGE = ShapeRange((1, 3, 8, 8), (1, 3, 16, 24), (4, 3, 32, 48))


@pytest.mark.parametrize(
    "version, precision, role, network_flags, builder_flags",
    [
        ("8.5.3.1", "fp32", "model", ("EXPLICIT_BATCH",), ()),
        ("8.6.1", "fp16", "model", ("EXPLICIT_BATCH",), ("FP16",)),
        ("8.6.1", "int8", "model", ("EXPLICIT_BATCH",), ("FP16", "INT8")),
        ("10.0.1", "fp16", "model", (), ("FP16",)),
        ("10.11.0.33", "int8", "model", (), ("FP16", "INT8")),
        ("10.12.0", "fp16", "fp16", ("STRONGLY_TYPED",), ()),
        ("10.13.0.35", "int8", "model", ("STRONGLY_TYPED",), ()),
        ("11.0.0", "fp16", "fp16", (), ()),
        ("11.4.0.106", "fp32", "model", (), ()),
    ],
)
def test_flags_follow_the_version(version, precision, role, network_flags, builder_flags):
    plan = make_plan(version, False, precision, ["model", "fp16"], RANGE, quantised=True)
    assert (plan.role, plan.network_flags, plan.builder_flags) == (role, network_flags, builder_flags)
    assert (
        plan.cleared_flags == (("TF32",) if precision == "fp32" else ())
        and plan.shapes == tuple(RANGE)
        and plan.timing_cache
    )


def test_tensorrt_for_rtx_is_told_what_tensorrt_11_is_told_but_keeps_no_timings():
    plan = make_plan("1.7.1.116", True, "fp16", ["model", "fp16"], None)
    assert dataclasses.replace(plan, timing_cache=True) == make_plan("11.4.0", False, "fp16", ["model", "fp16"], None)
    assert not plan.timing_cache


@pytest.mark.parametrize(
    "version, precision, error, words",
    [
        ("8.4.3", "fp32", DependencyError, "TensorRT 8.4.3 is too old; versions from 8.5"),
        ("7.1.3", "fp32", DependencyError, "too old"),
        (
            "11.4.0",
            "fp16",
            ArtifactError,
            "computes in the types that the graph says.*--format tensorrt --precision fp16",
        ),
        ("8.6.1", "int8", ArtifactError, "no 8-bit operators; export it with .*--precision int8"),
    ],
)
def test_what_a_version_cannot_do_is_said_before_anything_is_built(version, precision, error, words):
    with pytest.raises(error, match=words):
        make_plan(version, False, precision, ["model"], None)

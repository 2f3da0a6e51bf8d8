"""How a TensorRT engine is built, by version: planned as plain data, which can be checked without a GPU, then carried
out.

What changed between the versions (TensorRT's migration guides from 8 to 10 and from 10 to 11):
    8.5    named tensors and `execute_async_v3`; a network says that its batch is explicit
    10.0   it always is; what came before the named tensors is gone
    10.12  the flags for precision are deprecated: a network says that it is strongly typed, and its graph has the types
    11.0   it always is; the flags for precision are gone
TensorRT for RTX has the interface of TensorRT 11.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ppliteseg_paddle.errors import ArtifactError, DependencyError

log = logging.getLogger("ppliteseg_paddle")

OLDEST = (8, 5)
_ALWAYS_EXPLICIT, _TYPED_BY_GRAPH, _ALWAYS_TYPED = (10, 0), (10, 12), (11, 0)
# precision -> flags of the builder where they decide on it. INT8 may fall back to 16 bits where there is no 8-bit
# kernel.
_PRECISION_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}
DEFAULT_WORKSPACE = 2 << 30  # bytes; it is a bound, not a reservation


@dataclass(frozen=True)
class Plan:
    """What an engine is built with.

    Args:
        role: which file of the graph ("model" or "fp16").
        network_flags, builder_flags, cleared_flags: names in TensorRT's enumerations.
        shapes: smallest, usual, largest shape of the input where sizes are open, in the graph's layout.
        workspace: bytes that kernels may use beside the tensors.
        timing_cache: whether measured kernels are remembered between builds.
        target: TensorRT for RTX: a GPU generation ("SM86") to build for in place of this machine's GPU.
    """

    role: str
    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...]
    cleared_flags: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...] | None
    workspace: int = DEFAULT_WORKSPACE
    timing_cache: bool = True
    target: str | None = None


def make_plan(
    version: str,
    for_rtx: bool,
    precision: str,
    roles: Sequence[str],
    shapes: Sequence[Sequence[int]] | None,
    quantised: bool = False,
) -> Plan:
    """The plan for a version of TensorRT.

    Args:
        version: as `tensorrt.__version__` says; for_rtx: whether it is TensorRT for RTX.
        precision: "fp32", "fp16" or "int8".
        roles: the files that the artifact has; quantised: whether the graph says what is computed in 8 bits.
    Raises: DependencyError: for a version too old. ArtifactError: if the graph cannot be run at that precision.
    """
    numbers = _ALWAYS_TYPED if for_rtx else tuple(int(part) for part in version.split(".")[:2])
    if numbers < OLDEST:
        raise DependencyError(
            f"TensorRT {version} is too old; versions from {OLDEST[0]}.{OLDEST[1]} are supported. Install a newer one: "
            "pip install tensorrt"
        )
    if precision == "int8" and not quantised:
        raise ArtifactError(
            "the graph has no 8-bit operators; export it with --format tensorrt --precision int8 --calib_data LIST, "
            "or run it in fp16."
        )
    typed = numbers >= _TYPED_BY_GRAPH
    if typed and precision == "fp16" and "fp16" not in roles:
        raise ArtifactError(
            f"TensorRT {version} computes in the types that the graph says, and this one has none in 16 bits; export "
            "it with --format tensorrt --precision fp16."
        )
    network_flags = (
        ("EXPLICIT_BATCH",)
        if numbers < _ALWAYS_EXPLICIT
        else ("STRONGLY_TYPED",)
        if typed and numbers < _ALWAYS_TYPED
        else ()
    )
    return Plan(
        role="fp16" if typed and precision == "fp16" else "model",
        network_flags=network_flags,
        builder_flags=() if typed else _PRECISION_FLAGS[precision],
        # Else TensorRT rounds to 10 bits on GPUs since Ampere, which moves the borders in a mask.
        cleared_flags=("TF32",) if precision == "fp32" else (),
        shapes=None if shapes is None else tuple(tuple(shape) for shape in shapes),
        timing_cache=not for_rtx,
    )


def build_engine(trt: Any, plan: Plan, graph: bytes, timing: bytes, logger: Any) -> tuple[bytes, bytes]:
    """Build an engine; minutes on a GPU.

    Args: trt: the package; graph: the ONNX file; timing: an earlier build's timing cache or b""; logger: from
        `make_logger`.
    Returns: the engine and the new timing cache, serialised.
    Raises: ArtifactError: if TensorRT cannot take the graph.
    """
    builder = trt.Builder(logger)
    flags = 0
    for name in plan.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise ArtifactError(f"TensorRT {trt.__version__} cannot read the graph: {_line(reasons or logger.errors)}.")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace)
    for name in plan.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    for name in plan.cleared_flags:
        config.clear_flag(getattr(trt.BuilderFlag, name))
    if plan.target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, plan.target), 0)
    if plan.shapes is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, *plan.shapes)
        if config.add_optimization_profile(profile) < 0:
            raise ArtifactError(f"TensorRT {trt.__version__} refuses the shapes {plan.shapes}: {_line(logger.errors)}.")
    if plan.timing_cache and not config.set_timing_cache(config.create_timing_cache(timing), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ArtifactError(f"TensorRT {trt.__version__} cannot build an engine: {_line(logger.errors)}.")
    return bytes(engine), bytes(config.get_timing_cache().serialize()) if plan.timing_cache else b""


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that writes to Python's log (debug) and keeps errors for our own messages."""

    base: Any = trt.ILogger  # its constructor has to be called by name

    class Logger(base):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                self.errors.append(message)
            log.debug("TensorRT: %s", message)

    return Logger()


def _line(messages: Sequence[str]) -> str:
    """The first message, on one line."""
    return " ".join((messages or ["no reason is given"])[0].split())[:300].rstrip(". ")

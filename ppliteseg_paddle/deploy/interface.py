"""What every runtime implements (`Backend`), how a graph is to be run (`Options`), and what both need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import PRECISIONS, Artifact
from ppliteseg_paddle.deploy.shapes import ShapeRange, shape_range
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, suggest

# What a graph can be computed in: what it was exported for, or bfloat16.
COMPUTED = (*PRECISIONS, "bf16")
# Where the graph leaves height and width open, it is tried on an image of this size.
_TRIAL_SIDE = 64


class Backend:
    """One opened graph on one runtime. Not for several threads at once: open one for each.

    Attributes: `name` as in `runtimes.RUNTIMES`; `device` ("cpu", "gpu:0"); `graph`, the artifact's graph that is run.
    """

    name = ""
    device = "cpu"
    graph = ""
    # Whether a process that was forked after it was opened can open it again.
    opens_in_fork = True

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Run the graph and wait for its result.

        Shape: batch as the artifact's `input_of(graph)` says, contiguous; returns class ids (N, H, W) or scores
            (N, classes, H, W).
        """
        raise NotImplementedError

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        """`run` for the graph's second output: the logits before they are resized to the input's size. For graphs that
        have it (`Artifact.has_logits`); a backend without this method has its masks resized as class ids.

        Shape: returns float32 (N, classes, h, w).
        """
        raise NotImplementedError

    @property
    def gives_logits(self) -> bool:
        """Whether the backend has `run_logits`."""
        return type(self).run_logits is not Backend.run_logits

    def run_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        """`run`, telling when each step is done: "copy_in", "forward", "copy_out". What a runtime does in one is
        "forward". The benchmark times these steps."""
        output = self.run(batch)
        done("forward")
        return output

    def run_logits_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        """`run_logits`, as `run_in_steps` does it."""
        output = self.run_logits(batch)
        done("forward")
        return output

    def describe(self) -> dict[str, Any]:
        """Plain values for reports: at least "name", "runtime", "version" and "device"."""
        raise NotImplementedError


@dataclass(frozen=True)
class Options:
    """How a graph is to be run. The last three are for TensorRT alone.

    Args:
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads; None takes all that the process may use.
        precision: one of `COMPUTED`; None takes what the artifact was exported for.
        dynamic_shape: smallest, usual and largest input (N, C, H, W) of an engine; None takes the artifact's.
        cache_dir: where engines are kept and taken from, a folder that only you can write: an engine is a program. None
            keeps them in the user's cache.
        calibration: inputs of the graph from which Paddle-TensorRT learns the ranges of values for INT8.
    """

    device: str | None = None
    num_threads: int | None = None
    precision: str | None = None
    dynamic_shape: ShapeRange | None = None
    cache_dir: str | None = None
    calibration: Sequence[NDArray[Any]] = ()

    def checked(self, channels: int = 3) -> Options:
        """The same with `dynamic_shape` checked, too, for images of so many channels.

        Raises: ConfigError: for an unknown device or precision, or a number that is not possible.
        """
        threads = self.num_threads
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ConfigError(f"num_threads is {threads!r}; give an integer of at least 1.")
        if self.precision is not None and self.precision not in COMPUTED:
            raise ConfigError(f"unknown precision '{self.precision}'.{suggest(self.precision, COMPUTED)}")
        split_device(self.device)
        return replace(self, dynamic_shape=shape_range(self.dynamic_shape, channels))


def split_device(device: str | None) -> tuple[str | None, int]:
    """ "gpu:1" -> ("gpu", 1); None -> (None, 0), which leaves the choice to the runtime.

    Raises: ConfigError: for anything but cpu, gpu and gpu:N.
    """
    if device is None:
        return None, 0
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "gpu" or (number and not number.isdigit()) or device.endswith(":")):
        raise ConfigError(f"device '{device}' cannot run an exported model; give cpu, gpu or gpu:N.")
    return kind, int(number or 0)


def default_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_size(artifact: Artifact, batch: NDArray[Any], size: Sequence[int]) -> None:
    """Check that an input has the size that the artifact was exported for. Args: size: (H, W) of the image.

    Raises: DataError: saying all three sizes.
    """
    for dimension, found in zip("HW", batch.shape[2:]):
        wanted = artifact.input.size_of(dimension)
        if wanted not in (-1, found):
            raise DataError(
                "the model was exported for inputs of "
                f"{artifact.input.size_of('W'):d}x{artifact.input.size_of('H'):d} pixels (width x "
                f"height), and an image that comes as {size[1]:d}x{size[0]:d} gives "
                f"{batch.shape[3]:d}x{batch.shape[2]:d}; resize it, or export without --input_shape."
            )


def check_ports(artifact: Artifact, graph: str, inputs: int, outputs: int) -> None:
    """Check how many inputs and outputs a graph declares: one input; the masks or scores, and where `deploy.yaml` says
    so, the logits.

    Raises: ArtifactError: saying both.
    """
    expected = (1, 1 + artifact.has_logits(graph))
    if inputs != expected[0] or outputs < expected[1]:
        raise ArtifactError(
            f"{artifact.path_of(graph, 'model')} has {inputs:d} inputs and {outputs:d} outputs, but deploy.yaml "
            f"promises {expected[0]:d} and {expected[1]:d}: the graph is not the one that was exported; export the "
            "model again."
        )


def check_output(artifact: Artifact, graph: str, batch: NDArray[Any], output: NDArray[Any]) -> None:
    """Check that a graph returns what `deploy.yaml` says, on its first input: type, and a mask or scores of its size.

    Raises: ArtifactError: saying both.
    """
    layout = artifact.input_of(graph).layout
    sizes = [batch.shape[layout.index(name)] for name in "NHW"]
    classes = artifact.label_set.num_classes
    argmax = artifact.output.op == "argmax"
    expected = (artifact.output_of(graph).dtype, tuple(sizes if argmax else [sizes[0], classes, *sizes[1:]]))
    found = (str(output.dtype), tuple(output.shape))
    if found != expected or (argmax and output.size and int(output.max()) >= classes):
        raise ArtifactError(
            f"{artifact.path_of(graph, 'model')} returns {found[0]} {found[1]}, but deploy.yaml promises {expected[0]} "
            f"{expected[1]} of {classes:d} classes: the graph is not the one that was exported; export the model again."
        )


def trial_input(artifact: Artifact, graph: str = "paddle", side: int = _TRIAL_SIDE) -> NDArray[Any]:
    """Zeros of a size that the graph takes."""
    tensor = artifact.input_of(graph)
    sizes = {"N": 1, "C": artifact.image_form.channels, "H": side, "W": side}
    return np.zeros(
        [size if size > 0 else sizes[name] for name, size in zip(tensor.layout, tensor.shape)], tensor.dtype
    )

"""Export a model: describe it, copy it, convert the copy to each format, compare each with the model, write.

A format is written only if it gives the model's masks; one that cannot be made does not lose the others.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.folder import naming_the_disk, writing
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.engine.modes import evaluating
from ppliteseg_paddle.errors import ArtifactError, ConfigError, PPLiteSegError
from ppliteseg_paddle.export import paddlex, triton
from ppliteseg_paddle.export.compare import Original, compare_format, open_format, require_equal
from ppliteseg_paddle.export.describe import describe, output_tensor
from ppliteseg_paddle.export.formats import FORMATS, check_installed
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.reading.label_sets import LabelSet

# Of the weights, on the disk at once while one format is written.
_COPIES = 6
# Side of the check image where the input's size is open.
_USUAL_SIDE = 256


def export_model(model: Any, save_dir: str, options: ExportOptions) -> dict[str, Any]:
    """Write `model` as a folder that `Predictor` runs, and see that it gives the model's masks.

    The model itself is not changed: graphs are made of a copy in evaluation mode without auxiliary heads. An earlier
    export at `save_dir` is replaced.

    Args: model: any layer that returns a list with the logits (N, classes, H, W) first.
    Returns: the report: folder, files, input, output, resizing, comparison; `failed` says why a format is missing.
        Plain values.
    Raises: ConfigError: if the model does not fit the options. DependencyError: if a format needs what is not
        installed. ArtifactError: if the folder cannot be written. The first format's error, if none can be made or
        equals the model.
    """
    check_installed(options.formats)
    artifact = describe(model, options)
    images = _check_images(options, artifact)
    with evaluating(model):
        check_classes(model, options.label_set, options.image_form.channels)
        with writing(save_dir, options.overwrite) as folder, tempfile.TemporaryDirectory(dir=folder) as aside:
            source = Source(model, options.calibration, aside, options.graph, options.opset)
            graphs, checks, failures = _written(options.formats, source, artifact, folder, save_dir, images)
            artifact = replace(_without(artifact, failures), folder=folder, graphs=graphs, check=_summary_of(checks))
            quantisation = _quantisation(source, artifact)
            with naming_the_disk(folder, save_dir, _COPIES * _bytes_of(model)):
                repository = triton.write_repository(artifact) if options.triton else []
            artifact.write(repository)
            files = _sizes(folder)
    failed = {name: str(error) for name, error in failures.items()}
    return {
        **_report(save_dir, files, artifact, quantisation),
        **_paddlex(model, artifact),
        **_triton(artifact, repository),
        "failed": failed,
    }


def _written(
    formats: Sequence[str], source: Source, artifact: Artifact, folder: str, save_dir: str, images: list[NDArray[Any]]
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, Any]], dict[str, PPLiteSegError]]:
    """Write each format and compare it. Returns: by format the files, the comparisons, and why it is missing.

    Raises: ArtifactError: for a fault of the disk. The first format's error, if every format has one.
    """
    graphs: dict[str, dict[str, str]] = {}
    checks: dict[str, dict[str, Any]] = {}
    failures: dict[str, PPLiteSegError] = {}
    original = Original(source.model)
    for name in formats:
        others = set(os.listdir(folder))
        try:
            with naming_the_disk(folder, save_dir, _COPIES * _bytes_of(source.model)):
                roles = FORMATS[name].write(source, artifact, folder)
            written = replace(artifact, folder=folder, graphs={name: roles})
            checks[name] = _check_format(name, written, source, original, images, save_dir)
            graphs[name] = roles
        except (ConfigError, ArtifactError) as error:
            if isinstance(error.__cause__, OSError):
                raise
            failures[name] = error
            for left in set(os.listdir(folder)) - others:
                os.remove(os.path.join(folder, left))
    if not graphs:
        raise failures[formats[0]]
    return graphs, checks, failures


# --------------------------------------------------------------------------------------------
# Check
# --------------------------------------------------------------------------------------------
def check_classes(model: Any, label_set: LabelSet, channels: int = 3) -> None:
    """Raises: ConfigError: if the model returns no logits, or not one for each class, or takes other images."""
    import paddle

    taken = image_channels(model)
    if taken not in (None, channels):
        raise ConfigError(
            f"the model takes images of {taken:d} channels, and the data have {channels:d}: set img_channels of the "
            "data sets and model.backbone.in_channels to one number."
        )
    with paddle.no_grad():
        outputs = model(paddle.zeros([1, channels, 64, 64]))
    found = (
        outputs[0].shape[1] if isinstance(outputs, (list, tuple)) and outputs and len(outputs[0].shape) == 4 else None
    )
    if found is None:
        raise ConfigError(
            f"the model ({type(model).__name__}) does not return a list of logits, so it cannot be exported."
        )
    if found != label_set.num_classes:
        raise ConfigError(
            f"the model has {found:d} classes, but the label set '{label_set.name}' names {label_set.num_classes:d}; "
            "give names and colors for each class."
        )


def _bytes_of(model: Any) -> int:
    return sum(4 * math.prod(tensor.shape) for tensor in model.state_dict().values())


def image_channels(model: Any) -> int | None:
    """How many channels the first convolution of a model's backbone takes; None for a model without one."""
    import paddle

    layers = model.backbone.sublayers() if hasattr(model, "backbone") else ()
    first = next((layer for layer in layers if isinstance(layer, paddle.nn.Conv2D)), None)
    return int(first.weight.shape[1]) * int(first._groups) if first is not None else None


def _check_images(options: ExportOptions, artifact: Artifact) -> list[NDArray[Any]]:
    given = options.check_image
    if given is not None:
        return [given] if isinstance(given, np.ndarray) else list(given)
    shape = artifact.dynamic_shape.opt if artifact.dynamic_shape else artifact.input.shape
    height, width = (size if size > 0 else _USUAL_SIDE for size in shape[2:])
    return [generated_image(height, width, form=options.image_form)]


def _without(artifact: Artifact, failures: Collection[str]) -> Artifact:
    """What the artifact says of the formats that there are."""
    in_graph = tuple(name for name in artifact.in_graph if name not in failures)
    return replace(artifact, in_graph=in_graph, image_input=artifact.image_input if in_graph else None)


# --------------------------------------------------------------------------------------------
# Compare
# --------------------------------------------------------------------------------------------
def _check_format(
    name: str, written: Artifact, source: Source, original: Original, images: list[NDArray[Any]], save_dir: str
) -> dict[str, Any]:
    """Compare one written format with the model. Returns what `deploy.yaml` says of it.

    A mask tells little of how far the scores are off, so the same graph with logits as its output is compared, too.
    """
    row = FORMATS[name]
    check = compare_format(name, written, original, images)
    int8 = written.precision == "int8"
    if source.calibration is None or source.calibration.sensitivity:
        require_equal(check, save_dir, written.precision if row.rounds_to_fp16 or int8 else "fp32")
    if "max_difference" not in check:
        with tempfile.TemporaryDirectory(dir=written.folder) as aside:
            logits = output_tensor("none", written.label_set, written.input.shape)
            scores = replace(written, folder=aside, output=logits, logits=None)
            scores = replace(scores, graphs={name: row.write(source, scores, aside)})
            check["max_difference"] = compare_format(name, scores, original, images)["max_difference"]
    return {**check, **row.check_further(written, original, images, save_dir)}


def _summary_of(checks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The comparison of the format that differs most, and all of them where there are several."""
    worst = max(checks.values(), key=lambda check: (check["differing_pixels"], check["max_difference"]))
    return {**worst, **({"formats": checks} if len(checks) > 1 else {})}


def _quantisation(source: Source, artifact: Artifact) -> dict[str, Any] | None:
    """What int8 has measured and chosen; with labels also its mIoU beside that of a float export, which is not kept.
    None without int8."""
    if source.quantized is None or source.calibration is None:
        return None
    report = source.quantized.report
    names = [name for name in artifact.graphs if FORMATS[name].compared_as is None]  # those that this machine runs
    if not names or artifact.output.op != "argmax":
        return report
    from ppliteseg_paddle.export.int8.accuracy import measure_loss

    with tempfile.TemporaryDirectory(dir=artifact.folder) as aside:
        exact = replace(artifact, folder=aside, precision="fp32")
        exact = replace(exact, graphs={names[0]: FORMATS[names[0]].write(source, exact, aside)})
        quantized = {name: open_format(name, artifact) for name in names}
        accuracy = measure_loss(open_format(names[0], exact), quantized, source.calibration)
    return {**report, **({"accuracy": accuracy} if accuracy else {})}


# --------------------------------------------------------------------------------------------
# Report
# --------------------------------------------------------------------------------------------
def _sizes(folder: str) -> dict[str, int]:
    """Bytes of each file."""
    paths = {name: os.path.join(folder, name) for name in sorted(os.listdir(folder))}
    return {name: os.path.getsize(path) for name, path in paths.items() if os.path.isfile(path)}


def _paddlex(model: Any, artifact: Artifact) -> dict[str, str]:
    """The file that PaddleX reads, or why it is missing. {} without a graph of Paddle."""
    if "paddle" not in artifact.graphs:
        return {}
    file = artifact.graphs["paddle"].get("paddlex")
    return {"paddlex": file or f"not written: {paddlex.unable(artifact, paddlex.network_name(model))}"}


def _triton(artifact: Artifact, repository: Sequence[str]) -> dict[str, Any]:
    """The model repository: its models, and what builds TensorRT's engine. {} without one."""
    if not repository:
        return {}
    models = [path.split("/")[1] for path in repository if path.endswith(triton.CONFIG_FILE)]
    engine = {"engine": triton.engine_command(artifact, "tensorrt")} if "tensorrt" in artifact.graphs else {}
    return {"triton": {"folder": triton.FOLDER, "models": models, **engine}}


def _report(
    save_dir: str, files: dict[str, int], artifact: Artifact, quantisation: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "save_dir": save_dir,
        "formats": list(artifact.graphs),
        "files": files,
        "input": artifact.input.to_dict(),
        "image_input": artifact.image_input.to_dict() if artifact.image_input else None,
        "output": artifact.output.to_dict(),
        "resize": artifact.preprocess.resize_policy,
        "mask_resize": artifact.mask_resize,
        "test_config": artifact.views.to_dict(),
        "precision": artifact.precision,
        "check": artifact.check,
        **({} if quantisation is None else {"quantisation": quantisation}),
    }

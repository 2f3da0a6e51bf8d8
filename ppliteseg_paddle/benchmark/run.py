"""`ppliteseg benchmark`: exported folders on runtimes, under one protocol, on one image.

What is heavy is imported where it is used: the command's help needs this module's names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Optional

from ppliteseg_paddle import progress
from ppliteseg_paddle.errors import ConfigError

if TYPE_CHECKING:
    from ppliteseg_paddle.benchmark.protocols import Candidate
    from ppliteseg_paddle.deploy.artifact import Artifact

# Height and width of the image where neither an option nor the graph fixes them: the paper's smaller input.
DEFAULT_SIZE = (512, 1024)
Measured = tuple[list[dict[str, Any]], dict[str, Any]]
Size = Optional[tuple[int, int]]


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and how.

    Args:
        folders: exported folders; backends: names of `--backend`; precisions: of `runtimes.ARITHMETIC`, None for that
            of the export. Every folder is measured on every backend in every precision.
        protocol: a key of `PROTOCOLS`.
        image_path: the image; None generates one.
        size: the image's (height, width), under the protocol "paper" the network's; None takes the graph's, the file's
            or `DEFAULT_SIZE`.
        warmup, repeats: calls before timing starts, timed calls; None: see `timing.measure_round_robin`.
        streams, batch_size: throughput alone: fixed numbers in place of the best ones.
        device, num_threads: as `open_backend` has them.
    """

    folders: Sequence[str]
    backends: Sequence[str] = ("auto",)
    protocol: str = "latency"
    image_path: str | None = None
    size: Size = None
    warmup: int | None = None
    repeats: int | None = None
    streams: int | None = None
    batch_size: int | None = None
    device: str | None = None
    num_threads: int | None = None
    precisions: Sequence[str | None] = (None,)

    def check(self) -> None:
        """Raises: ConfigError: for options that do not fit the protocol."""
        for name in ("streams", "batch_size"):
            if getattr(self, name) and self.protocol != "throughput":
                raise ConfigError(
                    f"--{name} is for --protocol throughput; the protocol {self.protocol} takes one image at a time."
                )


def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """Measure. Returns: plain values, ready for JSON: the first row at the top, the others in "compared", the machine.

    Raises: ConfigError: for options that do not fit a graph. ArtifactError, DependencyError: as `open_backend`.
    """
    from ppliteseg_paddle.benchmark.protocols import result_of

    options.check()
    rows, more = PROTOCOLS[options.protocol](options, _candidates(options))
    return result_of(rows, **more)


def _candidates(options: BenchmarkOptions) -> list[Candidate]:
    from ppliteseg_paddle.benchmark.protocols import Candidate
    from ppliteseg_paddle.deploy.foreign import open_folder

    folders, backends = list(dict.fromkeys(options.folders)), list(dict.fromkeys(options.backends))
    precisions = list(dict.fromkeys(options.precisions))
    short = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    labels = short if len(set(short)) == len(short) else folders
    made = []
    for folder, label in zip(folders, labels):
        artifact = open_folder(folder)
        for backend, precision in product(backends, precisions):
            parts = ((labels, label), (backends, backend), (precisions, precision))
            name = ", ".join(str(part) for choices, part in parts if len(choices) > 1) or label
            made.append(Candidate(name, artifact, backend, options.device, options.num_threads, precision))
    return made


# --------------------------------------------------------------------------------------------
# Protocols
# --------------------------------------------------------------------------------------------
def _latency(options: BenchmarkOptions, candidates: Sequence[Candidate]) -> Measured:
    from ppliteseg_paddle.benchmark.protocols import latency

    images = {candidate.name: _image(options, candidate.artifact) for candidate in candidates}
    with _bar(options.repeats) as bar:
        rows = latency(candidates, images, options.warmup, options.repeats, lambda done, of: bar.update(done - bar.n))
    return rows, {}


def _paper(options: BenchmarkOptions, candidates: Sequence[Candidate]) -> Measured:
    from ppliteseg_paddle.benchmark.paper import REPORTED, TABLE2
    from ppliteseg_paddle.benchmark.protocols import PAPER_IMAGE, paper, paper_image
    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    encoded, done = paper_image(read_image(options.image_path) if options.image_path else generated_image(*PAPER_IMAGE))
    for candidate in candidates:
        _check_fixed(options.size, candidate.artifact)
    with _bar(options.repeats) as bar:
        rows = paper(
            candidates,
            encoded,
            options.size or DEFAULT_SIZE,
            options.warmup,
            options.repeats,
            lambda done, of: bar.update(done - bar.n),
        )
    image = {
        "file": options.image_path or "generated",
        "size": [PAPER_IMAGE[1], PAPER_IMAGE[0]],
        "encoding": "PNG",
        "prepared": done,
    }
    return rows, {"image": image, "reported": [REPORTED[key].to_dict() for key in TABLE2]}


def _throughput(options: BenchmarkOptions, candidates: Sequence[Candidate]) -> Measured:
    from ppliteseg_paddle.benchmark.throughput import throughput

    images = {candidate.name: _image(options, candidate.artifact) for candidate in candidates}
    given = {"windows": options.repeats} if options.repeats else {}
    with _bar(None) as bar:

        def progress(what: str) -> None:
            bar.update()
            bar.set_postfix_str(what)

        rows = throughput(candidates, images, options.streams, options.batch_size, progress=progress, **given)
    return rows, {}


PROTOCOLS = {"latency": _latency, "paper": _paper, "throughput": _throughput}


def _bar(total: int | None) -> Any:
    return progress.bar(total=total, desc="benchmark", unit="iteration")


# --------------------------------------------------------------------------------------------
# Image
# --------------------------------------------------------------------------------------------
def _image(options: BenchmarkOptions, artifact: Artifact) -> Any:
    """The image to time, of the size that options, file or graph say."""
    import cv2

    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    size = options.size
    _check_fixed(size, artifact)
    if options.image_path:
        image = read_image(options.image_path)
        return image if size is None else cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return generated_image(*(size or _fixed(artifact) or DEFAULT_SIZE))


def _fixed(artifact: Artifact) -> Size:
    return None if artifact.input.dynamic else (artifact.input.size_of("H"), artifact.input.size_of("W"))


def _check_fixed(size: Size, artifact: Artifact) -> None:
    """Raises: ConfigError: if a size is asked for that the graph does not take."""
    fixed = _fixed(artifact)
    if size and fixed and fixed != size:
        raise ConfigError(
            f"--input_shape asks for {size[0]}x{size[1]} (height x width), but the graph in {artifact.folder} is fixed "
            f"at {fixed[0]}x{fixed[1]}; export with that --input_shape, or without."
        )

"""One candidate of `studies.validation`: a process that evaluates a data set whenever it is told to."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle import environment
from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, OURS
from ppliteseg_paddle.benchmark.studies.worker import Work, answer
from ppliteseg_paddle.benchmark.timing import timed

EXPORTED = "exported"


class Options(NamedTuple):
    """What all candidates evaluate: weights of our model T or B, and the images of ROOT/val.txt.

    exported: a folder with the export of these weights; backend: what runs it.
    """

    model: str
    num_classes: int
    weights: str
    root: str
    exported: str
    backend: str

    @property
    def data(self) -> dict[str, Any]:
        """Arguments of PaddleSeg's `Dataset`, and of our `CheckedDataset`."""
        lists = os.path.join(self.root, "val.txt")
        return {"mode": "val", "dataset_root": self.root, "val_path": lists, "num_classes": self.num_classes}

    def network(self) -> Any:
        from ppliteseg_paddle.weights.load import load_weights

        network = baseline.build_ours(self.model, self.num_classes)
        load_weights(network, self.weights, strict=True)
        return network


class PaddleSegs:
    """PaddleSeg's network with these weights, its data set, and its `core.val.evaluate`."""

    def __init__(self, options: Options):
        from paddleseg import transforms
        from paddleseg.core import val
        from paddleseg.datasets import Dataset
        from paddleseg.utils import metrics

        from ppliteseg_paddle.benchmark.studies.evaluation import paddlesegs_areas

        environment.use_all_cores()
        self._network = baseline.build(options.model, options.num_classes, like=options.network())
        self._dataset = Dataset(transforms=[transforms.Normalize()], **options.data)
        self._evaluate, self._count = val.evaluate, paddlesegs_areas()
        self._areas: np.ndarray | None = None
        metrics.calculate_area = self._counted  # its own again, and noted where that is asked for

    def _counted(self, *arguments: Any, **options: Any) -> Any:
        found = self._count(*arguments, **options)
        if self._areas is not None:
            self._areas += np.stack([area.numpy() for area in found])
        return found

    def evaluate(self) -> None:
        self._evaluate(self._network, self._dataset, num_workers=0, print_detail=False)

    def areas(self) -> np.ndarray:
        self._areas = total = np.zeros((3, self._dataset.num_classes), np.int64)
        try:
            self.evaluate()
        finally:
            self._areas = None
        return total


class Ours:
    """`ppliteseg val`'s own way, with its defaults."""

    def __init__(self, options: Options):
        from paddleseg import transforms

        from ppliteseg_paddle.data.dataset import CheckedDataset

        environment.use_all_cores()
        environment.keep_freed_memory()
        self._network = options.network()
        self._dataset = CheckedDataset(transforms=[transforms.Normalize()], **options.data)

    def evaluate(self, counts: Any = None) -> None:
        from ppliteseg_paddle.engine.val import evaluate

        evaluate(self._network, self._dataset, counts, progress=False)

    def areas(self) -> np.ndarray:
        from ppliteseg_paddle.engine.image_scores import Counts

        counts = Counts(len(self._dataset), self._dataset.num_classes)
        self.evaluate(counts)
        return counts.areas.sum(axis=0)


class Exported:
    """The exported model alone: images are read and normalized before, and masks are not counted."""

    def __init__(self, options: Options):
        from ppliteseg_paddle.deploy.artifact import Artifact
        from ppliteseg_paddle.deploy.backends import open_backend
        from ppliteseg_paddle.reading.images import read_image
        from ppliteseg_paddle.reading.lists import read_list

        artifact = Artifact.read(options.exported)
        threads = int(os.environ["OMP_NUM_THREADS"])
        self._backend = open_backend(options.backend, artifact, "cpu", threads)
        self._pairs = read_list(options.data["val_path"], options.root)
        self._batches = [artifact.preprocess(read_image(pair.image))[0] for pair in self._pairs]
        self._num_classes = options.num_classes

    def evaluate(self) -> None:
        for batch in self._batches:
            self._backend.run(batch)

    def areas(self) -> np.ndarray:
        from ppliteseg_paddle.engine.metrics import confusion_matrix
        from ppliteseg_paddle.reading.labels import read_label

        total = np.zeros((self._num_classes, self._num_classes), np.int64)
        for batch, pair in zip(self._batches, self._pairs):
            label = read_label(str(pair.label))  # the list was read as one of pairs
            total += confusion_matrix(self._backend.run(batch)[0], label, self._num_classes)
        return np.stack([np.diag(total), total.sum(axis=0), total.sum(axis=1)])


KINDS: dict[str, Callable[[Options], Any]] = {BASELINE: PaddleSegs, OURS: Ours, EXPORTED: Exported}


def main(arguments: list[str]) -> int:
    """Answer "evaluation" with its seconds, and "count" with each class's pixels: agreeing, predicted, labelled."""

    def prepare() -> Work:
        options = json.loads(arguments[0])
        candidate = KINDS[options.pop("who")](Options(**options))
        return {"evaluation": timed(candidate.evaluate), "count": lambda: {"areas": candidate.areas().tolist()}}

    return answer(prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

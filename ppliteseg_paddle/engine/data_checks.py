"""The data sets of a configuration, checked: for `data check`, and before each training."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.data.check import QUICK_SAMPLE, check_datasets, first_error
from ppliteseg_paddle.data.findings import WARNING
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.progress import bar
from ppliteseg_paddle.reading.images import UnreadableError

SAMPLE = 64  # pairs that are read before the start
SAMPLE_SECONDS = 10.0  # and no longer than this


def check_config(
    config: Any, sample: int | None = None, num_workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Check the training and validation set of a configuration.

    Args: as in `data.check.check_datasets`.
    Returns: what it returns, and "class_names", "config".
    Raises: DataError, ConfigError: where a data set cannot even be listed.
    """
    datasets = {"train": build.build_train_dataset(config)}
    if config.val_dataset_cfg:
        datasets["val"] = build.build_val_dataset(config)
    for name, dataset in datasets.items():
        if not lists_pairs(dataset):
            raise DataError(
                f"{name + '_dataset'} is of type {type(dataset).__name__}, which does not list image and label files, "
                "so they cannot be checked."
            )
    names = list(build.label_set_of(config).classes)
    result = check_datasets(
        datasets, names, config.batch_size, unreadable_share(config), sample, num_workers=num_workers, progress=progress
    )
    return {**result, "class_names": names, "config": config.source.path}


def check_before_training(config: Any, datasets: Mapping[str, Any], full: bool = False) -> None:
    """What is quick to see: that all files exist, and what a sample of the labels holds; or, with `full`, everything.

    Prints warnings. From here on the data sets skip unreadable files, as far as the configuration allows.

    Raises: DataError: for what training would fail on.
    """
    datasets = {name: dataset for name, dataset in datasets.items() if dataset is not None and lists_pairs(dataset)}
    share = unreadable_share(config)
    names = list(build.label_set_of(config).classes)
    quick: dict[str, Any] = {} if full else {"sample": QUICK_SAMPLE, "images": False, "num_workers": 0}
    result = check_datasets(datasets, names, config.batch_size, share, **quick)
    fault = first_error(result)
    if fault:
        raise DataError(fault)
    for row in result["findings"]:
        if row["severity"] == WARNING:
            print(
                f"warning: {row['split']}: {row['count']:d} {row['title']} ({', '.join(row['first'])}): "
                f"{row['effect']}",
                file=sys.stderr,
            )


def check_data(config: Any, datasets: Mapping[str, Any], full: bool = False, look: bool = True) -> None:
    """Read a sample of the pairs, or with `full` all, or without `look` none.

    Raises: DataError: for what training would fail on.
    """
    for name, dataset in datasets.items():
        if dataset is not None:
            skip_unreadable(config, dataset)
            if look and not full:
                check_sample(dataset, {"train": "training", "val": "validation"}[name])
    if look:
        check_before_training(config, datasets, full)


def check_sample(dataset: Any, name: str, count: int = SAMPLE, seconds: float = SAMPLE_SECONDS) -> int:
    """Read pairs spread evenly over the data set, so that a broken one is found before hours of training.

    Returns: how many were read. Data sets of other packages are not looked into.
    Raises: DataError: for the first pair that cannot serve.
    """
    if not hasattr(dataset, "read"):
        return 0
    size = len(dataset)
    count = min(count, size)
    indices = sorted({round(i * (size - 1) / max(count - 1, 1)) for i in range(count)})
    deadline = time.time() + seconds
    for done, index in enumerate(bar(indices, desc=f"checking {name} images", unit="image", leave=False), start=1):
        try:
            dataset.read(index)
        except UnreadableError as error:
            if getattr(dataset, "unreadable", None) is None:
                raise
            dataset.unreadable.add(index, error)
        if time.time() > deadline:
            return done
    return len(indices)


def unreadable_share(config: Any) -> float:
    """The share of a data set's pairs that may be skipped as unreadable."""
    return float(value_of(config.dic, "max_unreadable_share"))


def skip_unreadable(config: Any, dataset: Any) -> None:
    """Let a data set skip unreadable files, where the allowed share comes to one or more."""
    share = unreadable_share(config)
    if hasattr(dataset, "skip_unreadable") and int(share * len(dataset)):
        dataset.skip_unreadable(share)


def skipped(*datasets: Any) -> list[str]:
    """The images that data sets have skipped so far."""
    return [path for dataset in datasets if getattr(dataset, "unreadable", None) for path in dataset.unreadable.paths()]


def lists_pairs(dataset: Any) -> bool:
    """Whether a data set tells which files it reads, and is read by us."""
    return hasattr(dataset, "file_list") and hasattr(dataset, "read")

"""The data sets of a configuration, cached and described: what `data cache` and `data stats` do."""

from __future__ import annotations

import os
from typing import Any

from ppliteseg_paddle.data.cache import write_cache
from ppliteseg_paddle.data.stats import dataset_stats
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.data_checks import lists_pairs
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.label_sets import recolored


def cache_config(config: Any, folder: str, num_workers: int | None = None, progress: bool = True) -> dict[str, Any]:
    """Decode the training and validation pairs of a configuration into a cache folder.

    Returns: what `data.cache.write_cache` returns, and "config".
    Raises: ConfigError: for a data set that does not list files; what `write_cache` raises.
    """
    config.dic.pop("data_cache", None)  # the cache that is about to be made
    datasets = [build.build_train_dataset(config)]
    if config.val_dataset_cfg:
        datasets.append(build.build_val_dataset(config))
    for dataset in datasets:
        if not lists_pairs(dataset):
            raise ConfigError(
                f"{config.source.path}: data sets of type {type(dataset).__name__} do not list image and label files, "
                "so they cannot be cached."
            )
    return {**write_cache(datasets, folder, num_workers, progress), "config": config.source.path}


def describe_config(
    config: Any,
    split: str,
    save_dir: str,
    samples: int = 6,
    seed: int = 0,
    palette: str | None = None,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Statistics of a configuration's data set, with figures of its class shares and of some samples.

    Args: split: "train" or "val"; save_dir: where distribution.png and samples.png go; samples, seed: how many images
        and which; palette: a file of the classes' colors.
    Returns: what `data.stats.dataset_stats` returns, "split", "pictures" (paths).
    Raises: DataError: for a file that cannot be read. DependencyError: without matplotlib.
    """
    from ppliteseg_paddle.visual.plots import class_distribution
    from ppliteseg_paddle.visual.png import write_image
    from ppliteseg_paddle.visual.samples import samples_grid

    dataset = (build.build_train_dataset if split == "train" else build.build_val_dataset)(config)
    labels = recolored(build.label_set_of(config), palette)
    result = dataset_stats(dataset, labels.classes, num_workers)
    if result["img_range"] is not None:  # perhaps only suggested: the pictures are drawn in it
        dataset.form = ImageForm.checked(dataset.img_channels, result["img_range"])
    title = f"{split}, {result['images']:d} images"
    paths = [os.path.join(save_dir, name) for name in ("distribution.png", "samples.png")]
    class_distribution(paths[0], result["classes"], labels.palette, title)
    write_image(paths[1], samples_grid(dataset, labels, samples, seed, title))
    return {**result, "split": split, "pictures": paths}

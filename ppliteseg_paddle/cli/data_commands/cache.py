"""`data cache`."""

from __future__ import annotations

from ppliteseg_paddle.cli.common import add_flags, count

HELP = "decode a data set once, so that training reads pixels and not files"


def add_arguments(parser) -> None:
    add_flags(parser, "config", config={"required": True})
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder to fill; run again, only what is missing or has changed is decoded",
    )
    add_flags(
        parser,
        "num_workers",
        "opts",
        num_workers={"type": count, "default": None, "help": "processes (default: one per core)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.data.cache import write_cache
    from ppliteseg_paddle.engine import build
    from ppliteseg_paddle.engine.data_checks import lists_pairs
    from ppliteseg_paddle.errors import ConfigError

    config = build.load_config(args.config, args.opts)
    config.dic.pop("data_cache", None)  # the cache that is to be made
    datasets = [build.build_train_dataset(config)] + (
        [build.build_val_dataset(config)] if config.val_dataset_cfg else []
    )
    for dataset in datasets:
        if not lists_pairs(dataset):
            raise ConfigError(
                f"{config.source.path}: data sets of type {type(dataset).__name__} do not list image and label files, "
                "so they cannot be cached."
            )
    return {**write_cache(datasets, args.out, args.num_workers), "config": config.source.path}


def summary(result: dict) -> str:
    from ppliteseg_paddle.data.cache import size_text

    lines = [f"skipped: {error}" for error in result["skipped"].values()]
    lines += [
        f"{result['pairs']:d} pairs in {result['out']}, {size_text(result['bytes'])}: {result['written']:d} decoded, "
        f"{result['kept']:d} kept, {len(result['skipped']):d} skipped"
    ]
    return "\n".join(
        lines + [f"train from it: ppliteseg train --config {result['config']} --opts data_cache={result['out']}"]
    )

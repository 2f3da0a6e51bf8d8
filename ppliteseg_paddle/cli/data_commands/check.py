"""`data check`."""

from __future__ import annotations

from collections.abc import Sequence

from ppliteseg_paddle.cli.common import add_flags, count, positive_int
from ppliteseg_paddle.reading.label_sets import aligned

HELP = "find everything in a data set that training would fail on"
_WORDS = {"error": "ERROR", "warning": "warning", "note": "note"}


def add_arguments(parser) -> None:
    add_flags(parser, "config", config={"required": True})
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", action="store_true", help="read every pair, as is done without this flag, too")
    which.add_argument("--sample", type=positive_int, metavar="N", help="read N pairs of each list only")
    add_flags(
        parser,
        "num_workers",
        "opts",
        num_workers={"type": count, "default": None, "help": "processes (default: one per core)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.data_checks import check_config

    result = check_config(load_config(args.config, args.opts), args.sample, args.num_workers)
    return {**result, "exit_status": 2 if result["errors"] else 0}


def _size(pair: Sequence[int] | None) -> str:
    return "{}x{}".format(*pair) if pair else "-"


def summary(result: dict) -> str:
    lines = []
    for name, split in result["splits"].items():
        sizes = _size(split["smallest"]) + (
            "" if split["smallest"] == split["largest"] else " to " + _size(split["largest"])
        )
        pixels = split["labelled_pixels"] + split["ignored_pixels"]
        lines.append(
            f"{name!s:6} {split['pairs']:d} pairs ({split['read']:d} read), {sizes}, "
            f"{100 * split['ignored_pixels'] / max(pixels, 1):.1f} % of pixels ignored"
        )
    lines += ["", _class_table(result["splits"])]
    for row in result["findings"]:
        lines += ["", f"{_WORDS[row['severity']]}, {row['split']}: {row['count']:d} {row['title']}"]
        lines += ["    " + text for text in row["first"]]
        if row["count"] > len(row["first"]):
            lines.append(f"    ... and {(row['count'] - len(row['first'])):d} more")
        lines += [f"  in training: {row['effect']}", f"  fix: {row['fix']}"]
    numbers = {word: sum(row["severity"] == word for row in result["findings"]) for word in _WORDS}
    lines += [
        "",
        f"{('training would fail' if result['errors'] else 'fit for training')}: {numbers['error']:d} errors, "
        f"{numbers['warning']:d} warnings, {numbers['note']:d} notes",
    ]
    return "\n".join(lines)


def _class_table(splits: dict) -> str:
    title, *names = aligned(["class", *(row["name"] for row in next(iter(splits.values()))["classes"])])
    head = title + "".join(f"  {split + ' px'!s:>10} {'images'!s:>10}" for split in splits)
    lines = [head]
    for i, name in enumerate(names):
        cells = "".join(
            f"  {100 * split['classes'][i]['share']:8.3f} % {100 * split['classes'][i]['image_share']:8.1f} %"
            for split in splits.values()
        )
        lines.append(name + cells)
    return "\n".join(lines)

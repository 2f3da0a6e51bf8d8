"""Write a trained model as a folder for deployment: graph, weights, and deploy.yaml, which describes them.

Every graph is run on an image and compared with the model. One that differs or cannot be made is not written; the
others are, and the exit status is 2."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from ppliteseg_paddle.cli.common import FLAGS, add_flags, config_for, shape
from ppliteseg_paddle.deploy.runtimes import readers
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.formats import FORMATS, GRAPHS, OPSETS, names_where
from ppliteseg_paddle.export.int8.calibration import METHODS, Calibration
from ppliteseg_paddle.export.int8.report import check_quant_report
from ppliteseg_paddle.export.options import CHOSEN, ExportOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(
        parser, "config", "model_path", "save_dir", model_path={"required": True}, save_dir={"default": "output/export"}
    )
    run_by = [f"{name}: {', '.join(readers(name))}" for name in FORMATS]
    parser.add_argument(
        "--format",
        nargs="+",
        choices=list(FORMATS),
        default=list(ExportOptions.formats),
        dest="formats",
        help="one or several, into one folder; tensorrt is ONNX in the form that TensorRT builds its engines from. Run "
        f"by: {'; '.join(run_by)} (default: {' '.join(ExportOptions.formats)})",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--input_shape",
        type=int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="fix the input's size, as in 1 3 512 1024; images of other sizes are resized to it (default: any size)",
    )
    sizes.add_argument(
        "--dynamic_shape",
        type=shape,
        nargs=3,
        metavar=("MIN", "OPT", "MAX"),
        help="leave batch, height and width open between two shapes, with the most frequent one between them, as in "
        "1,3,256,256 1,3,512,1024 4,3,1024,2048; TensorRT tunes its engines to them",
    )
    parser.add_argument(
        "--output_op",
        choices=["argmax", "softmax", "sigmoid", "none"],
        default=ExportOptions.output_op,
        help="what leaves the graph: class ids, probabilities (sigmoid: of each class by itself), or logits (default: "
        "argmax; with test_config.use_multilabel sigmoid)",
    )
    add_flags(
        parser,
        "use_multilabel",
        "mask_resize",
        mask_resize={
            "help": f"{FLAGS['mask_resize']['help'].rsplit(' (', 1)[0]} (default: bilinear; with --graph plain nearest)"
        },
    )
    parser.add_argument(
        "--graph",
        choices=list(GRAPHS),
        default=ExportOptions.graph,
        help=f"of {names_where(lambda row: row.several_graphs)}: plain uses the operators that OpenCV, ncnn, MNN and "
        "TFLite read, and has one output; give --input_shape with it (default: %(default)s)",
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=OPSETS,
        metavar=f"{OPSETS[0]:d}..{OPSETS[-1]:d}",
        default=ExportOptions.opset,
        help=f"of {names_where(lambda row: row.opsets)}: version of the operator set (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "fp16", "int8"],
        default=ExportOptions.precision,
        help="fp16: half the file's size, and what TensorRT computes in; int8: needs --calib_data "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--calib_data",
        metavar="LIST",
        help="int8: a text file with 50 to 200 images, one a line, relative to the list's folder; a label may follow "
        "each, as in a data set's list (the loss of mIoU is measured on the validation set, or where it is not on this "
        "machine, on these labels)",
    )
    parser.add_argument(
        "--calib_method",
        choices=list(METHODS),
        default=Calibration.method,
        help="int8: how values become a range (default: %(default)s)",
    )
    parser.add_argument(
        "--quant_report",
        metavar="FILE",
        help="int8: write every layer's sensitivity as JSON, and beside it as Markdown and as a plot",
    )
    parser.add_argument(
        "--preprocess_in_graph",
        action="store_true",
        help="all formats but paddle: the graph takes uint8 NHWC BGR images of any size, resizes and normalises "
        "them itself, and returns masks of their size",
    )
    parser.add_argument(
        "--triton",
        action="store_true",
        help=f"of {names_where(lambda row: row.triton is not None)}: also write SAVE_DIR/triton, a model repository "
        "for NVIDIA Triton Inference Server with a model for each format",
    )
    add_flags(
        parser,
        "image_path",
        "device",
        "opts",
        "overwrite",
        "verbose",
        overwrite={"help": "replace an earlier export, too, whose files were changed, or that PaddleSeg wrote"},
        image_path={"help": "image to compare export and model on (default: three of the validation set)"},
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    _check_quantisation(args)
    if args.quant_report:
        check_quant_report(args.quant_report, args.overwrite)
    from ppliteseg_paddle.export.run import export

    report = export(
        config_for(args),
        args.model_path,
        args.save_dir,
        args.opts or (),
        calib_data=args.calib_data,
        calib_method=args.calib_method,
        image_path=args.image_path,
        device=args.device,
        verbose=args.verbose,
        **{name: getattr(args, name) for name in CHOSEN},
    )
    if args.quant_report:
        from ppliteseg_paddle.export.int8.report import write_quant_report

        report["quant_report"] = write_quant_report(args.quant_report, report["quantisation"], args.overwrite)
    for name, reason in report["failed"].items():
        print(f"error: {name} is not written: {reason}", file=sys.stderr)
    return {**report, "exit_status": 2} if report["failed"] else report


def summary(result: dict[str, Any]) -> str:
    check, shape = result["check"], result["input"]["shape"]
    size = "any size" if result["input"]["dynamic"] else f"{shape[3]:d} x {shape[2]:d}"
    lines = [
        f"exported    {result['save_dir']} ({', '.join(result['files'])}, {sum(result['files'].values()) / 1e6:.1f} "
        "MB)",
        f"input       {result['input']['layout']}, {size}",
        f"output      {result['output']['op']}, {result['output']['dtype']}",
        *_evaluation_lines(result),
    ]
    if result["image_input"]:
        lines.insert(
            2,
            "            or images without preprocessing, uint8 NHWC BGR of any size: "
            f"{', '.join(name for name in result['formats'] if FORMATS[name].takes_images)}",
        )
    if "paddlex" in result:
        lines.append(f"PaddleX     {result['paddlex']}")
    lines += _triton_lines(result)
    lines.append(f"compared    with an evaluation of the model on {check['image']}:")
    for name, values in check.get("formats", {result["formats"][0]: check}).items():
        same = "equal in every pixel"
        if values["differing_pixels"]:
            ties = "" if result.get("quantisation") else ", all near-ties"
            same = f"{100 * values['differing_pixels']:.4f} % of pixels differ{ties}"
        lines.append(
            f"  {name!s:10}{same}; scores within {values['max_difference']:.2g} ({values['backend']} on "
            f"{values['device']})"
        )
    lines += _quantisation_lines(result)
    folder = shlex.quote(result["save_dir"])
    return "\n".join(
        lines
        + [
            "",
            "next:",
            f"  ppliteseg predict   --model_dir {folder} --image_path PHOTOS",
            f"  ppliteseg benchmark --model_dir {folder}",
        ]
    )


def _triton_lines(result: dict[str, Any]) -> list[str]:
    values = result.get("triton")
    if not values:
        return []
    folder = os.path.join(result["save_dir"], values["folder"])
    lines = [f"triton      {folder}: {', '.join(values['models'])}"]
    if "engine" in values:
        inside = shlex.quote(os.path.join(folder, "ppliteseg_tensorrt", "1"))
        lines.append(f"            build its engine on the GPU's machine: cd {inside} && {values['engine']}")
    return lines


def _evaluation_lines(result: dict[str, Any]) -> list[str]:
    """What an image of another size, or `test_config`, means for the masks."""
    lines = []
    if result["test_config"]:
        values = ", ".join(f"{key} {value}" for key, value in result["test_config"].items())
        lines.append(f"test_config {values}: in deploy.yaml, obeyed by `predict` and Predictor")
    if result["resize"] and result["mask_resize"] == "nearest":
        lines.append("masks       class ids are resized (nearest): faster than `val`'s masks, with other borders")
    return lines


def _quantisation_lines(result: dict[str, Any]) -> list[str]:
    values = result.get("quantisation")
    if not values:
        return []
    lines = [
        f"int8        {len(values['float_layers']):d} of {len(values['layers']):d} layers in float, chosen on "
        f"{values['sensitivity_images']:d} images; ranges ({values['method']}) from {values['images']:d}"
    ]
    accuracy = values.get("accuracy")
    if accuracy:
        lost = accuracy["lost_points"]
        lines.append(
            f"mIoU        {100 * accuracy['fp32_mIoU']:.2f} % -> {100 * accuracy['int8_mIoU']:.2f} %: {abs(lost):.2f} "
            f"points {('lost' if lost > 0 else 'gained')} on {accuracy['images']:d} {accuracy['on']} images"
        )
    else:
        lines.append("mIoU        not known: --calib_data names no labels")
    return lines + [f"report      {', '.join(result['quant_report'])}"] if "quant_report" in result else lines


def _check_quantisation(args: argparse.Namespace) -> None:
    if args.precision == "int8" and args.calib_data is None:
        raise ConfigError(
            "--precision int8 needs --calib_data LIST: a text file with 50 to 200 images, one a line, such as a data "
            "set's train.txt."
        )
    if args.precision != "int8":
        for flag in ("calib_data", "quant_report"):
            if getattr(args, flag):
                raise ConfigError(f"--{flag} is for --precision int8; give both, or neither.")

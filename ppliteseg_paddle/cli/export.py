"""Write a trained model as a folder for deployment: graph, weights, and deploy.yaml, which describes them.

What was written is run on an image and compared with the model; if they differ, nothing is left behind."""

from __future__ import annotations

import os
import shlex

from ppliteseg_paddle.cli.common import add_flags, shape
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.export.formats import FORMATS
from ppliteseg_paddle.export.int8.calibration import METHODS, Calibration, read_calibration_list
from ppliteseg_paddle.export.options import ExportOptions

# Flags that are fields of `ExportOptions` under the same name.
_OPTIONS = ("formats", "input_shape", "dynamic_shape", "precision", "output_op", "preprocess_in_graph")


def add_arguments(parser) -> None:
    add_flags(
        parser,
        "config",
        "model_path",
        "save_dir",
        config={"required": True},
        model_path={"required": True},
        save_dir={"default": "output/export"},
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=list(FORMATS),
        default=list(ExportOptions.formats),
        dest="formats",
        help="one or several, into one folder; tensorrt is ONNX in the form that TensorRT builds its engines of "
        "(default: %(default)s)",
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
        help="leave batch, height and width open between two shapes, with the one that is met most, as in "
        "1,3,256,256 1,3,512,1024 4,3,1024,2048; TensorRT tunes its engines to them",
    )
    parser.add_argument(
        "--output_op",
        choices=["argmax", "softmax", "none"],
        default=ExportOptions.output_op,
        help="what leaves the graph: class ids, probabilities, or logits (default: %(default)s)",
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
        help="int8: a text file with 50 to 200 images, one a line, relative to the "
        "list's folder; a label may follow each, as in a data set's list (where there are labels, the loss of mIoU is "
        "measured on them, or on the validation set if it is there)",
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
        help="int8: write every layer's sensitivity as JSON, and beside it as Markdown and as a picture",
    )
    parser.add_argument(
        "--preprocess_in_graph",
        action="store_true",
        help="all formats but paddle: the graph takes uint8 NHWC BGR images of any size, resizes and normalises "
        "them itself, and returns masks of their size",
    )
    add_flags(
        parser,
        "image_path",
        "device",
        "opts",
        "verbose",
        image_path={"help": "image to compare export and model on (default: the first one of the validation set)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.engine.build import label_set_of
    from ppliteseg_paddle.export.trained import load_trained, val_transforms

    _check_quantisation(args)
    config, model = load_trained(args.config, args.model_path, args.opts, args.device, args.verbose)
    transforms = val_transforms(config)
    from ppliteseg_paddle.export.pipeline import export_model

    source, image = _check_image(args.image_path, config)
    options = ExportOptions(
        label_set=label_set_of(config),
        transforms=transforms,
        calibration=_calibration(args, config) if args.precision == "int8" else None,
        check_image=image,
        description={"config": os.path.basename(args.config), "weights": os.path.basename(args.model_path)},
        **{name: getattr(args, name) for name in _OPTIONS},
    )
    report = export_model(model, args.save_dir, options)
    report["check"]["image"] = source
    if args.quant_report:
        from ppliteseg_paddle.export.int8.report import write_quant_report

        report["quant_report"] = write_quant_report(args.quant_report, report["quantisation"])
    return report


def summary(result: dict) -> str:
    check, shape = result["check"], result["input"]["shape"]
    size = "any size" if result["input"]["dynamic"] else f"{shape[3]:d} x {shape[2]:d}"
    lines = [
        f"exported    {result['save_dir']} ({', '.join(result['files'])}, {sum(result['files'].values()) / 1e6:.1f} "
        "MB)",
        f"input       {result['input']['layout']}, {size}",
        f"output      {result['output']['op']}, {result['output']['dtype']}",
    ]
    if result["image_input"]:
        lines.insert(
            2,
            "            or images as they are, uint8 NHWC BGR of any size: "
            f"{', '.join(name for name in result['formats'] if name != 'paddle')}",
        )
    lines.append(f"compared    with the model on {check['image']}:")
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


def _quantisation_lines(result: dict) -> list:
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


def _check_quantisation(args) -> None:
    if args.precision == "int8" and args.calib_data is None:
        raise ConfigError(
            "--precision int8 needs --calib_data LIST: a text file with 50 to 200 images, one a line, such as a data "
            "set's train.txt."
        )
    if args.precision != "int8":
        for flag in ("calib_data", "quant_report"):
            if getattr(args, flag):
                raise ConfigError(f"--{flag} is for --precision int8; give both, or neither.")


def _calibration(args, config):
    """What INT8 is measured on: the list, and the validation set where it is on this machine."""
    from ppliteseg_paddle.engine.build import build_val_dataset

    images = read_calibration_list(args.calib_data)
    try:
        validation = [tuple(pair[:2]) for pair in build_val_dataset(config).file_list if len(pair) > 1]
    except PPLiteSegError:  # the data need not be on the machine that exports
        validation = []
    return Calibration(images, args.calib_method, validation)


def _check_image(path, config):
    """What to call the image that is compared on, and the image; None if it has to be generated."""
    from ppliteseg_paddle.reading.images import read_image

    if path is not None:
        return path, read_image(path)
    from ppliteseg_paddle.engine.build import build_val_dataset

    try:
        path = build_val_dataset(config).file_list[0][0]
        return path, read_image(path)
    except PPLiteSegError:  # the data need not be on the machine that exports
        return "a generated image", None

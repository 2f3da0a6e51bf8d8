"""Write a trained model as a folder for deployment: graph, weights, and deploy.yaml, which describes them.

What was written is run on an image and compared with the model; if they differ, nothing is left behind."""
from __future__ import annotations

import os
import shlex

from ppliteseg_paddle.cli.common import add_flags, shape
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError


def add_arguments(parser) -> None:
    add_flags(parser, "config", "model_path", "save_dir", config={"required": True}, model_path={"required": True},
              save_dir={"default": "output/export"})
    parser.add_argument("--format", nargs="+", choices=["paddle", "onnx", "openvino", "tensorrt"], default=["paddle"], dest="formats",
                        help="one or several, into one folder; tensorrt is ONNX in the form that TensorRT builds its engines of "
                        "(default: paddle)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--input_shape", type=int, nargs=4, metavar=("N", "C", "H", "W"),
                       help="fix the input's size, as in 1 3 512 1024; images of other sizes are resized to it "
                       "(default: any size)")
    sizes.add_argument("--dynamic_shape", type=shape, nargs=3, metavar=("MIN", "OPT", "MAX"),
                       help="leave batch, height and width open between two shapes, with the one that is met most, as in "
                       "1,3,256,256 1,3,512,1024 4,3,1024,2048; TensorRT tunes its engines to them")
    parser.add_argument("--output_op", choices=["argmax", "softmax", "none"], default="argmax",
                        help="what leaves the graph: class ids, probabilities, or logits (default: %(default)s)")
    parser.add_argument("--preprocess_in_graph", action="store_true",
                        help="onnx and openvino: the graph takes uint8 NHWC BGR images of any size, resizes and normalises "
                        "them itself, and returns masks of their size")
    add_flags(parser, "image_path", "device", "opts", "verbose",
              image_path={"help": "image to compare export and model on (default: the first one of the validation set)"})


def run(args) -> dict:
    from ppliteseg_paddle.engine.build import label_set_of
    config, model = load_trained(args)
    transforms = val_transforms(config)
    from ppliteseg_paddle.export.paddle import export_model
    source, image = _check_image(args.image_path, config)
    report = export_model(model, args.save_dir, formats=args.formats, label_set=label_set_of(config), transforms=transforms,
                          input_shape=args.input_shape, dynamic_shape=args.dynamic_shape, output_op=args.output_op,
                          preprocess_in_graph=args.preprocess_in_graph, check_image=image,
                          description={"config": os.path.basename(args.config), "weights": os.path.basename(args.model_path)})
    report["check"]["image"] = source
    return report


def summary(result: dict) -> str:
    check, shape = result["check"], result["input"]["shape"]
    size = "any size" if result["input"]["dynamic"] else "%d x %d" % (shape[3], shape[2])
    lines = [
        "exported    %s (%s, %.1f MB)" % (result["save_dir"], ", ".join(result["files"]), sum(result["files"].values()) / 1e6),
        "input       %s, %s" % (result["input"]["layout"], size),
        "output      %s, %s" % (result["output"]["op"], result["output"]["dtype"])]
    if result["image_input"]:
        lines.insert(2, "            or images as they are, uint8 NHWC BGR of any size: %s" % ", ".join(
            name for name in result["formats"] if name != "paddle"))
    lines.append("compared    with the model on %s:" % check["image"])
    for name, values in check.get("formats", {result["formats"][0]: check}).items():
        same = "equal in every pixel" if not values["differing_pixels"] else "%.4f %% of pixels differ, all near-ties" % (
            100 * values["differing_pixels"])
        lines.append("  %-10s%s; scores within %.2g (%s on %s)" % (name, same, values["max_difference"], values["backend"],
                                                                   values["device"]))
    folder = shlex.quote(result["save_dir"])
    return "\n".join(lines + ["", "next:", "  ppliteseg predict   --model_dir %s --image_path PHOTOS" % folder,
                              "  ppliteseg benchmark --model_dir %s" % folder])


def load_trained(args):
    """Configuration and model with the weights of `args.model_path`, on `args.device`.

    Raises: ConfigError, WeightsError.
    """
    from ppliteseg_paddle.engine.build import build_model, load_config
    config = load_config(args.config, args.opts)
    from ppliteseg_paddle.engine.device import select_device
    from ppliteseg_paddle.models.weights import load_weights
    select_device(args.device)
    model = build_model(config, pretrained=False, verbose=args.verbose)
    load_weights(model, args.model_path, strict=True)
    model.eval()
    return config, model


def val_transforms(config):
    """The validation transforms as a `Preprocess`.

    Raises: ConfigError: if there are none, or one that cannot serve on new images.
    """
    from ppliteseg_paddle.deploy.preprocess import Preprocess
    block = config.dic.get("val_dataset") or {}
    if "transforms" not in block:
        raise ConfigError("%s: there is no val_dataset.transforms, so it is not known how images enter the model; add it."
                          % config.source.path)
    return Preprocess(block["transforms"], config.source.of("val_dataset.transforms"))


def _check_image(path, config):
    """What to call the image that is compared on, and the image; None if it has to be generated."""
    from ppliteseg_paddle.deploy.preprocess import read_image
    if path is not None:
        return path, read_image(path)
    from ppliteseg_paddle.engine.build import build_val_dataset
    try:
        path = build_val_dataset(config).file_list[0][0]
        return path, read_image(path)
    except PPLiteSegError:  # the data need not be on the machine that exports
        return "a generated image", None

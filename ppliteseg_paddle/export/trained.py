"""A trained model as its configuration describes it: weights, transforms, and images to compare and calibrate on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.export.int8.calibration import Calibration, read_calibration_list
from ppliteseg_paddle.reading.image_form import ImageForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.deploy.preprocess import Preprocess

# The first, a middle and the last image of the validation set: they differ in more than one drive's frames do.
COMPARED_IMAGES = 3


def load_trained(
    config_path: str,
    model_path: str,
    opts: Sequence[str] | None = None,
    device: str | None = None,
    verbose: bool = False,
) -> tuple[Any, Any]:
    """The configuration, and its model as `load_model` returns it.

    Args: opts: changes of the configuration.
    Raises: ConfigError, WeightsError.
    """
    from ppliteseg_paddle.engine.build import load_config

    config = load_config(config_path, opts)
    return config, load_model(config, model_path, device, verbose)


def load_model(config: Any, model_path: str, device: str | None = None, verbose: bool = False) -> Any:
    """The configuration's model with the weights of a file, in evaluation mode.

    Args: config: from `engine.build.load_config`; device: None takes a GPU where there is one, else the CPU.
    Raises: ConfigError: if the model cannot be built. WeightsError: if the file does not fit it.
    """
    from ppliteseg_paddle.engine.build import build_model
    from ppliteseg_paddle.engine.device import select_device
    from ppliteseg_paddle.weights.load import load_weights

    select_device(device)
    model = build_model(config, pretrained=False, verbose=verbose)
    load_weights(model, model_path, strict=True)
    model.eval()
    return model


def val_transforms(config: Any) -> Preprocess:
    """The validation transforms.

    Raises: ConfigError: if there are none, or one that cannot be applied to new images.
    """
    from ppliteseg_paddle.deploy.preprocess import Preprocess

    block = config.dic.get("val_dataset") or {}
    if "transforms" not in block:
        raise ConfigError(
            f"{config.source.path}: there is no val_dataset.transforms, so it is not known how images enter the model; "
            "add it."
        )
    where = config.source.of("val_dataset.transforms")
    return Preprocess(block["transforms"], where, image_form(config).channels)


def image_form(config: Any) -> ImageForm:
    """Channels of the images, and the range of their values."""
    return ImageForm.of_block(config.dic.get("val_dataset") or config.dic["train_dataset"])


def trained_predictor(config: Any, model: Any, with_scores: bool, **options: Any) -> Predictor:
    """A `Predictor` that runs a trained model itself, as `val` evaluates it.

    Args: with_scores: whether scores leave the model, as confidence and sliding windows need them; options: as
        `Predictor` has them.
    """
    from ppliteseg_paddle.engine.build import label_set_of, use_multilabel
    from ppliteseg_paddle.export.eager import eager_predictor

    output_op = "none" if with_scores or use_multilabel(config) else "argmax"
    how: dict[str, Any] = {"image_form": image_form(config), "test_config": dict(config.test_config)}
    return eager_predictor(model, label_set_of(config), val_transforms(config), output_op, **how, **options)


def check_images(config: Any, path: str | None = None) -> tuple[str, list[NDArray[Any]] | None]:
    """What to call the images on which export and model are compared, and these: the one of `path`, or some of the
    validation set; None where that is not on this machine.

    Raises: DataError: if `path` cannot be read.
    """
    from ppliteseg_paddle.reading.images import read_image

    if path is not None:
        return path, [read_image(path, *image_form(config))]
    paths = [pair[0] for pair in _validation_files(config)]
    paths = list(dict.fromkeys(paths[i * (len(paths) - 1) // 2] for i in range(COMPARED_IMAGES))) if paths else []
    try:
        images = [read_image(path, *image_form(config)) for path in paths]
    except PPLiteSegError:
        images = []
    if not images:
        return "a generated image", None
    others = f" and {len(images) - 1:d} more of the validation set" if len(images) > 1 else ""
    return paths[0] + others, images


def calibration(config: Any, list_path: str, method: str = Calibration.method) -> Calibration:
    """What INT8 is measured on: the images of a list, and the validation set where it is on this machine.

    Raises: ConfigError, DataError: for an unknown method, or a list that cannot be read.
    """
    validation = [(pair[0], pair[1]) for pair in _validation_files(config) if len(pair) > 1]
    return Calibration(read_calibration_list(list_path), method, validation)


def _validation_files(config: Any) -> list[list[str]]:
    from ppliteseg_paddle.engine.build import build_val_dataset

    try:
        return list(build_val_dataset(config).file_list)
    except PPLiteSegError:  # the data need not be on the machine that exports
        return []

"""`ppliteseg_paddle.export`: the command `export` as a function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.arguments import check_names, loaded
from ppliteseg_paddle.engine.build import label_set_of
from ppliteseg_paddle.export import trained
from ppliteseg_paddle.export.int8.calibration import Calibration
from ppliteseg_paddle.export.options import CHOSEN, ExportOptions
from ppliteseg_paddle.export.pipeline import export_model


def export(
    config: Any,
    model_path: str,
    save_dir: str = "output/export",
    opts: Sequence[str] = (),
    *,
    calib_data: str | None = None,
    calib_method: str | None = None,
    image_path: str | None = None,
    device: str | None = None,
    verbose: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write trained weights as a folder that `Predictor` opens, compared with the model before it is written.

        export("output/config.yml", "output/best_model/model.pdparams", "exported", formats=["onnx"])

    Args:
        config, opts: as `train` takes them; model_path: as `val` takes it.
        calib_data: for `precision="int8"`: a list of images, one a line; calib_method: how values become a range.
        image_path: an image to compare export and model on; None takes three of the validation set.
        options: formats, input_shape, dynamic_shape, precision, output_op, mask_resize, preprocess_in_graph, graph,
            opset, triton, overwrite, as `ExportOptions` has them; each is a flag of `ppliteseg export`.
    Returns: the report: folder, files, input, output, comparison.
    Raises: ConfigError, DataError, WeightsError, DependencyError; ArtifactError: if the folder cannot be written, or
        if the export differs from the model.
    """
    check_names("export", options, CHOSEN)
    given = loaded(config, opts)
    compared, images = trained.check_images(given, image_path)
    method = calib_method or Calibration.method
    chosen = ExportOptions(
        label_set=label_set_of(given),
        transforms=trained.val_transforms(given),
        calibration=trained.calibration(given, calib_data, method) if calib_data else None,
        test_config=dict(given.test_config),
        check_image=images,
        image_form=trained.image_form(given),
        description={"config": os.path.basename(given.source.path), "weights": os.path.basename(model_path)},
        **options,
    )
    report = export_model(trained.load_model(given, model_path, device, verbose), save_dir, chosen)
    report["check"]["image"] = compared
    return report

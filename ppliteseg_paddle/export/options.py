"""What `export_model` is asked for: one default each, validated once, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.export.formats import DEFAULT_OPSET, FORMATS, GRAPHS, OPSETS, check_known, names_where
from ppliteseg_paddle.reading.image_form import ImageForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.deploy.shapes import ShapeRange
    from ppliteseg_paddle.deploy.views import ViewPlan
    from ppliteseg_paddle.export.int8.calibration import Calibration
    from ppliteseg_paddle.reading.label_sets import LabelSet

# The fields of `ExportOptions` that a user chooses; the configuration says the rest.
CHOSEN = (
    *("formats", "input_shape", "dynamic_shape", "precision"),
    *("output_op", "mask_resize", "preprocess_in_graph", "graph", "opset", "triton", "overwrite"),
)


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Args:
        label_set: the model's classes and their colors.
        transforms: the configuration's validation transforms.
        formats: keys of `FORMATS`; they share one folder.
        input_shape: (N, C, H, W), -1 where open; None leaves batch, height and width open. With a fixed size, images of
            other sizes are resized to it.
        dynamic_shape: in its place three shapes (N, C, H, W): the smallest, the usual and the largest input.
        precision: "fp32", "fp16" or "int8". fp16 is what TensorRT computes in, and how ONNX and OpenVINO files keep
            their weights; Paddle's graph is not changed by it. int8 is for all formats but Paddle's.
        calibration: the images that int8 is calibrated on; for int8 alone.
        output_op: what leaves the graph: "argmax" (class ids), "softmax" or, with `use_multilabel`, "sigmoid"
            (probabilities), or "none" (logits); None takes "argmax", or "sigmoid".
        preprocess_in_graph: whether all graphs but Paddle's take uint8 NHWC BGR images of any size, do the transforms
            themselves, and return masks of the image's size.
        image_form: channels of the images, and the range of their values.
        test_config: how the configuration evaluates images; it becomes part of the export.
        mask_resize: how a mask gets to the image's size where the input has another: "bilinear" resizes logits, as an
            evaluation does, which the graphs then have as a second output; "nearest" resizes class ids. None takes
            "bilinear", and "nearest" for a plain graph of class ids or probabilities, which has one output.
        graph: of ONNX and OpenVINO: "fast", or "plain", which more runtimes read.
        opset: version of the operator set of ONNX files, one of `OPSETS`.
        triton: whether a model repository for NVIDIA Triton is written, too (`export.triton`).
        check_image: (H, W, 3) uint8 BGR, or as `image_form` says, or several of them, on which export and model are
            compared; None generates one.
        description: what else `deploy.yaml` says of the model.
        overwrite: replace an earlier export, too, whose files were changed, or that PaddleSeg wrote.
    Raises: ConfigError: for a value that cannot serve, or two that exclude each other.
    """

    label_set: LabelSet
    transforms: Preprocess | Sequence[Mapping[str, Any]]
    formats: Sequence[str] = ("paddle",)
    input_shape: Sequence[int] | None = None
    dynamic_shape: ShapeRange | Sequence[Sequence[int]] | None = None
    precision: str = "fp32"
    calibration: Calibration | None = None
    output_op: str | None = None
    preprocess_in_graph: bool = False
    test_config: Mapping[str, Any] = field(default_factory=dict)
    mask_resize: str | None = None
    graph: str = GRAPHS[0]
    opset: int = DEFAULT_OPSET
    triton: bool = False
    check_image: NDArray[Any] | Sequence[NDArray[Any]] | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    image_form: ImageForm = ImageForm()

    def __post_init__(self) -> None:
        from ppliteseg_paddle.deploy.artifact import MASK_RESIZES, OUTPUT_OPS, PRECISIONS
        from ppliteseg_paddle.deploy.preprocess import Preprocess
        from ppliteseg_paddle.deploy.shapes import shape_range

        if self.output_op is None:
            self._set("output_op", "sigmoid" if self.test_config.get("use_multilabel") else "argmax")
        one_output = self.graph == "plain" and self.output_op != "none"
        if self.mask_resize is None:
            self._set("mask_resize", "nearest" if one_output else "bilinear")
        choices = (
            ("output_op", OUTPUT_OPS),
            ("precision", PRECISIONS),
            ("mask_resize", MASK_RESIZES),
            ("graph", GRAPHS),
        )
        for name, allowed in choices:
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"unknown {name} '{value}'.{suggest(value, allowed)}")
        self._set("formats", check_known(self.formats))
        self._check_multilabel()
        self._check_graph(one_output)
        self._check_in_graph()
        self._check_int8()
        self._set("dynamic_shape", shape_range(self.dynamic_shape, self.image_form.channels))
        if self.dynamic_shape is not None and self.input_shape is not None:
            raise ConfigError("input_shape fixes the input's size and dynamic_shape leaves it open; give one of them.")
        self._set("input_shape", _checked_shape(self.input_shape, self.image_form.channels))
        open_size = self.input_shape is None or self.input_shape[-1] < 1
        if self.precision == "int8" and "openvino" in self.formats and open_size:
            raise ConfigError(
                "OpenVINO computes INT8 graphs of open size wrongly: give --input_shape 1 "
                f"{self.image_form.channels:d} H W, or drop the format openvino (ONNX Runtime runs INT8 of any size)."
            )
        if not isinstance(self.transforms, Preprocess):
            self._set("transforms", Preprocess(self.transforms, channels=self.image_form.channels))
        self._check_views()

    @property
    def preprocess(self) -> Preprocess:
        """The transforms, checked."""
        return cast("Preprocess", self.transforms)

    @property
    def views(self) -> ViewPlan:
        """`test_config`, checked. A fixed input size takes the place of the one scale that there is."""
        from ppliteseg_paddle.deploy.views import ViewPlan

        plan = ViewPlan.of(self.test_config)
        return replace(plan, scales=(1.0,)) if self._fixed and len(plan.scales) == 1 and not plan.windows else plan

    @property
    def _fixed(self) -> bool:
        return self.shape[2] > 0

    @property
    def shape_range(self) -> ShapeRange | None:
        """`dynamic_shape`, checked."""
        return cast("ShapeRange | None", self.dynamic_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The network's input (N, C, H, W), -1 where a size is open."""
        if self.shape_range is not None:
            return self.shape_range.open_shape
        open_shape = (-1, self.image_form.channels, -1, -1)
        return cast("tuple[int, ...]", self.input_shape) if self.input_shape is not None else open_shape

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen; this is its constructor

    def _check_graph(self, one_output: bool) -> None:
        if self.opset not in OPSETS:
            raise ConfigError(f"--opset is {self.opset!r}; give a number from {OPSETS[0]:d} to {OPSETS[-1]:d}.")
        with_opsets, with_graphs = names_where(lambda row: row.opsets), names_where(lambda row: row.several_graphs)
        for flag, given, able in (
            ("opset", self.opset != DEFAULT_OPSET, with_opsets),
            ("graph plain", self.graph == "plain", with_graphs),
        ):
            if given and not any(name in able.split() for name in self.formats):
                raise ConfigError(f"--{flag} is for the format {able}; add it, or leave the flag out.")
        if one_output and self.mask_resize != "nearest":
            raise ConfigError(
                "--graph plain has one output, and --mask_resize bilinear needs logits as a second one: give "
                "--mask_resize nearest, or --output_op none."
            )
        if self.graph == "plain" and self.precision == "fp16" and "onnx" in self.formats:
            raise ConfigError(
                "--graph plain keeps the weights of ONNX files in 32 bits, as its readers want them constant: drop "
                "--precision fp16 (ncnn, MNN and TFLite round weights themselves)."
            )

    def _check_in_graph(self) -> None:
        if self.triton and not any(FORMATS[name].triton for name in self.formats):
            raise ConfigError(
                f"--triton is for the formats {names_where(lambda row: row.triton is not None)}; add one of them, or "
                "drop the flag."
            )
        if self.preprocess_in_graph and not any(FORMATS[name].takes_images for name in self.formats):
            raise ConfigError(
                f"--preprocess_in_graph is for the formats {names_where(lambda row: row.takes_images)}; add one of "
                "them, or drop the flag."
            )
        if self.preprocess_in_graph and self.image_form != ImageForm():
            raise ConfigError(
                "--preprocess_in_graph is for color images of 8 bits; leave it out for others: Predictor does the "
                "transforms."
            )

    def _check_multilabel(self) -> None:
        several = bool(self.test_config.get("use_multilabel"))
        if several and self.output_op in ("argmax", "softmax"):
            raise ConfigError(
                f"--output_op {self.output_op} takes one class a pixel, and the model decides each class by itself "
                "(test_config.use_multilabel): give sigmoid or none."
            )
        if not several and self.output_op == "sigmoid":
            raise ConfigError(
                "--output_op sigmoid is for models with test_config.use_multilabel; this one takes one class a pixel: "
                "give argmax, softmax or none."
            )
        if several and self.precision == "int8":
            raise ConfigError(
                "--precision int8 chooses its layers by masks of one class a pixel, so it cannot go with "
                "test_config.use_multilabel: give fp32 or fp16."
            )
        if several and self.preprocess_in_graph:
            raise ConfigError(
                "--preprocess_in_graph is for masks of one class a pixel, so it cannot go with "
                "test_config.use_multilabel: leave it out; Predictor does the transforms."
            )

    def _check_views(self) -> None:
        plan = self.views
        faults = (
            (
                self._fixed and len(plan.scales) > 1,
                f"scales {list(plan.scales)} need a graph for any size: drop --input_shape",
            ),
            (
                self._fixed and plan.windows is not None and tuple(plan.windows.crop_size) != self.shape[:1:-1],
                f"crop_size {plan.windows and list(plan.windows.crop_size)} is the network's input: give "
                "--input_shape 1 3 H W of that size, or drop it",
            ),
            (
                self._fixed and plan.windows is not None and bool(self.preprocess.resize_policy),
                "is_slide slides over the resized image, and --input_shape takes windows of the image: drop it",
            ),
            (
                self.preprocess_in_graph and not plan.plain,
                f"{plan.to_dict()} cannot go into a graph that takes images: drop --preprocess_in_graph",
            ),
            (
                self.graph == "plain" and self.output_op != "none" and plan.single is None,
                "its views and windows are averaged as logits: give --graph plain with --output_op none",
            ),
            (
                self.mask_resize == "nearest" and plan.single is None,
                "its views and windows are averaged as logits: drop --mask_resize nearest",
            ),
        )
        for wrong, reason in faults:
            if wrong:
                raise ConfigError(
                    f"test_config: {reason}; or export without it (--opts test_config.aug_eval=False "
                    "test_config.is_slide=False), and the masks differ from those of `val`."
                )

    def _check_int8(self) -> None:
        if self.precision != "int8":
            if self.calibration is not None:
                raise ConfigError(f"calibration is for precision int8, not {self.precision}; give both, or neither.")
            return
        unable = [name for name in self.formats if not FORMATS[name].int8]
        if unable:
            raise ConfigError(
                f"--precision int8 is for the formats {names_where(lambda row: row.int8)}; drop {unable[0]}, or export "
                "it by itself."
            )
        if self.calibration is None:
            raise ConfigError(
                "--precision int8 needs --calib_data LIST: a text file with 50 to 200 images, one a line."
            )


def _checked_shape(shape: Sequence[int] | None, channels: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    shape = tuple(-1 if size is None else int(size) for size in shape)
    fixed = len(shape) == 4 and min(shape[2:]) > 0
    if len(shape) != 4 or shape[0] not in (1, -1) or shape[1] != channels or not (fixed or shape[2:] == (-1, -1)):
        raise ConfigError(
            f"input_shape is {list(shape)}; give N {channels:d} H W with N 1 or -1, and H and W both in pixels or both "
            "-1."
        )
    return shape

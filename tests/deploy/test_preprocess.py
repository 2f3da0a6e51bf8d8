import copy

import cv2
import numpy as np
import pytest
from exported import photograph

from ppliteseg_paddle.deploy.images import check_image
from ppliteseg_paddle.deploy.preprocess import Preprocess, Undo, restore
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.images import read_image

NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
PIPELINES = {
    "normalize": [NORMALIZE],
    "one value for all channels": [{"type": "Normalize", "mean": [0.5], "std": [0.25]}],
    "nothing": [],
    "resize": [{"type": "Resize", "target_size": [256, 128]}, NORMALIZE],
    "resize, other interpolation": [{"type": "Resize", "target_size": [301, 203], "interp": "CUBIC"}, HALF],
    "resize, ratio kept": [{"type": "Resize", "target_size": [300, 200], "keep_ratio": True, "size_divisor": 32}, HALF],
    "long side": [{"type": "ResizeByLong", "long_size": 333}, NORMALIZE],
    "short side": [{"type": "ResizeByShort", "short_size": 97}, NORMALIZE],
    "short side, limited": [{"type": "ResizeByShort", "short_size": 300, "max_size": 350}, NORMALIZE],
    "limited long side": [{"type": "LimitLong", "max_long": 200}, NORMALIZE],
    "least long side": [{"type": "LimitLong", "min_long": 800}, NORMALIZE],
    "padding": [{"type": "Padding", "target_size": [700, 640]}, NORMALIZE],
    "padding after": [NORMALIZE, {"type": "Padding", "target_size": [700, 640], "im_padding_value": 0}],
    "aspect ratio": [{"type": "PaddingByAspectRatio", "aspect_ratio": 2.0}, NORMALIZE],
    "resize after": [HALF, {"type": "Resize", "target_size": [200, 100]}],
    "several": [{"type": "ResizeByLong", "long_size": 320}, {"type": "Padding", "target_size": [320, 320]}, HALF],
}
SIZES = [(427, 640), (333, 517), (480, 360)]


def paddleseg_compose(transforms):
    from paddleseg.cvlibs import manager
    from paddleseg.transforms import Compose

    built = []
    for step in copy.deepcopy(transforms):
        built.append(manager.TRANSFORMS[step.pop("type")](**step))
    return Compose(built)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PIPELINES)
def test_the_input_equals_what_paddleseg_makes_of_the_image(name, size):
    image = photograph(*size)
    expected = paddleseg_compose(PIPELINES[name])({"img": image.astype("float32")})["img"]
    found, _ = Preprocess(PIPELINES[name])(image)
    assert found.dtype == np.float32 and found.flags["C_CONTIGUOUS"]
    assert np.array_equal(found[0], expected)
    assert Preprocess(PIPELINES[name]).input_size(*size) == found.shape[2:]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PIPELINES)
def test_masks_and_scores_come_back_to_the_images_size_as_paddleseg_brings_them(name, size, rng):
    import paddle
    from paddleseg.core.infer import reverse_transform

    batch, undo = Preprocess(PIPELINES[name])(photograph(*size))
    trace = paddleseg_compose(PIPELINES[name])({"img": photograph(*size).astype("float32")})["trans_info"]
    mask = rng.integers(0, 11, batch.shape[2:]).astype(np.uint8)
    expected = reverse_transform(paddle.to_tensor(mask[None, None].astype("int32")), trace, mode="nearest").numpy()[
        0, 0
    ]
    found = restore(mask, undo)
    assert found.shape == size and found.dtype == np.uint8
    assert np.array_equal(found, expected)

    scores = rng.standard_normal((5,) + batch.shape[2:]).astype(np.float32)
    expected = reverse_transform(paddle.to_tensor(scores[None]), trace, mode="bilinear").numpy()[0]
    np.testing.assert_allclose(
        restore(scores, undo), expected, atol=1e-3
    )  # weights are float32 on both sides, coordinates differ


def test_an_image_that_needs_no_resizing_leaves_nothing_to_undo():
    _, undo = Preprocess([{"type": "Resize", "target_size": [640, 427]}, HALF])(photograph())
    assert undo == []
    _, undo = Preprocess([{"type": "Resize", "target_size": [320, 200]}, HALF])(photograph())
    assert undo == [Undo("resize", (427, 640))]


def test_one_image_does_not_change_how_the_next_one_is_resized():
    pipeline = Preprocess([{"type": "ResizeByShort", "short_size": 300, "max_size": 350}, HALF])
    pipeline(photograph(100, 400))
    assert pipeline(photograph(300, 300))[0].shape[2:] == (300, 300)


@pytest.mark.parametrize(
    "step, words",
    [
        (
            {"type": "RandomHorizontalFlip"},
            ["val.0", "RandomHorizontalFlip", "cannot be part of an exported model", "Normalize"],
        ),
        ({"type": "Resize", "target_sise": [1, 2]}, ["val.0", "Resize has no argument 'target_sise'", "'target_size'"]),
        ({"type": "Resize", "target_size": 512}, ["target_size is 512", "[width, height]"]),
        ({"type": "Resize", "target_size": [512, 0]}, ["target_size", "[width, height]"]),
        ({"type": "Resize", "interp": "RANDOM"}, ["interp is 'RANDOM'", "NEAREST, LINEAR"]),
        ({"type": "ResizeByLong"}, ["ResizeByLong needs 'long_size'"]),
        ({"type": "ResizeByShort", "short_size": [400, 500]}, ["short_size", "integer number"]),
        ({"type": "Normalize", "mean": [0.5, 0.5]}, ["mean", "one or three numbers"]),
        ({"type": "Normalize", "std": [0.5, 0, 0.5]}, ["std", "without zeros"]),
        ({"mean": [0.5]}, ["val.0", "'type'"]),
    ],
)
def test_a_transform_that_cannot_serve_is_refused_by_name(step, words):
    with pytest.raises(ConfigError) as error:
        Preprocess([step], "val")
    for word in words:
        assert word in str(error.value)


def test_two_normalize_steps_are_refused():
    with pytest.raises(ConfigError, match="2 Normalize steps"):
        Preprocess([HALF, HALF])


def test_an_image_larger_than_the_padding_is_refused_with_both_sizes():
    with pytest.raises(DataError, match="640x427.*512x512"):
        Preprocess([{"type": "Padding", "target_size": [512, 512]}, HALF])(photograph())


def test_the_pipeline_survives_being_written_and_read():
    pipeline = Preprocess(PIPELINES["several"])
    again = Preprocess(pipeline.to_transforms())
    assert again.to_transforms() == pipeline.to_transforms()
    assert np.array_equal(again(photograph())[0], pipeline(photograph())[0])
    assert pipeline.normalisation == {"scale": 255.0, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert [step["type"] for step in pipeline.resize_policy] == ["ResizeByLong", "Padding"]


def test_files_are_read_as_opencv_reads_them(tmp_path):
    for name in ("photo.jpg", "photo.png", "föto.png"):
        ok, data = cv2.imencode(name[-4:], photograph())
        (tmp_path / name).write_bytes(data.tobytes())
        assert np.array_equal(read_image(tmp_path / name), cv2.imdecode(data, cv2.IMREAD_COLOR))
    cv2.imwrite(str(tmp_path / "gray.png"), photograph()[:, :, 0])
    assert read_image(tmp_path / "gray.png").shape == (427, 640, 3)


@pytest.mark.parametrize(
    "content, words", [(None, "does not exist"), (b"", "empty"), (b"no image at all", "cannot be decoded")]
)
def test_a_file_that_is_no_image_is_reported_by_name(tmp_path, content, words):
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_image(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((4, 5), np.uint8), "gray"),
        (np.zeros((4, 5, 1), np.uint8), "gray"),
        (np.zeros((4, 5, 4), np.uint8), "4 channels"),
        (np.zeros((4, 5, 3), np.float32), "float32.*expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"expected \(H, W, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        ([[0, 0, 0]], "is of type list"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_the_conversion(image, words):
    with pytest.raises(DataError, match=words):
        check_image(image)

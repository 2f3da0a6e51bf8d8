"""`predict` on videos and cameras, its outputs and options. Images, folders and lists are in test_cli_deploy.py."""

import importlib.util
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from commands import files_in, run_json, values_of, write_photo, write_video
from exported import small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main


# --------------------------------------------------------------------------------------------
# Images: outputs and options
# --------------------------------------------------------------------------------------------
def test_colors_and_confidences_are_written_on_request(tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.png")
    status, _ = run_json(
        capsys,
        "predict",
        "--model_dir",
        small_folder(),
        "--image_path",
        photo,
        "--save_dir",
        tmp_path / "out",
        "--outputs",
        "color",
        "confidence",
    )
    assert status == 0 and files_in(tmp_path / "out") == ["color/photo.png", "confidence/photo.png"]
    predictor = Predictor(small_folder())
    mask, confidence = predictor.predict_with_confidence(photo)
    values, mode = values_of(tmp_path / "out" / "confidence" / "photo.png")
    assert mode == "P" and np.array_equal(values, np.rint(confidence * 255).astype(np.uint8))
    colors = cv2.imread(str(tmp_path / "out" / "color" / "photo.png"))[:, :, ::-1]
    assert np.array_equal(colors, np.array(predictor.label_set.palette, np.uint8)[mask])


def test_unknown_pixels_are_written_and_counted(tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.png")
    limit = float(np.median(Predictor(small_folder()).predict_with_confidence(photo)[1]))
    argv = [
        "--model_dir",
        small_folder(),
        "--image_path",
        photo,
        "--save_dir",
        tmp_path / "out",
        "--unknown_below",
        limit,
    ]
    status, result = run_json(capsys, "predict", *argv)
    mask, _ = values_of(tmp_path / "out" / "mask" / "photo.png")
    assert status == 0 and result["unknown"] == {"id": 255, "share": round(float(np.mean(mask == 255)), 6)}
    assert 0.2 < result["unknown"]["share"] < 0.8
    photo_again, drawn = cv2.imread(str(photo)), cv2.imread(str(tmp_path / "out" / "overlay" / "photo.png"))
    assert np.array_equal(drawn[: mask.shape[0], : mask.shape[1]][mask == 255], photo_again[mask == 255])
    assert main(["predict", *map(str, argv)]) == 0
    assert "% of the pixels (value 255)" in capsys.readouterr().out


def test_masks_of_300_classes_are_16_bit_pngs(tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.png")
    folder = small_folder("argmax", None, 300)
    status, _ = run_json(
        capsys,
        "predict",
        "--model_dir",
        folder,
        "--image_path",
        photo,
        "--save_dir",
        tmp_path / "out",
        "--outputs",
        "mask",
        "overlay",
        "color",
        "--grid",
        tmp_path / "grid.png",
    )
    values, mode = values_of(tmp_path / "out" / "mask" / "photo.png")
    predictor = Predictor(folder)
    mask = predictor.predict(photo)
    assert status == 0 and mode.startswith("I") and mask.max() > 255 and np.array_equal(values, mask)
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "mask" / "photo.png"), cv2.IMREAD_UNCHANGED), mask)
    colors = cv2.imread(str(tmp_path / "out" / "color" / "photo.png"))[:, :, ::-1]
    assert np.array_equal(colors, np.array(predictor.label_set.palette, np.uint8)[mask])


def test_batches_of_mixed_sizes_give_every_image_its_files(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    sizes = [(64, 96), (96, 64), (64, 96), (40, 40), (64, 96), (96, 64)]
    for i, size in enumerate(sizes):
        write_photo(tmp_path / "in" / (f"{i:d}.png"), *size)
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        small_folder(),
        "--image_path",
        tmp_path / "in",
        "--save_dir",
        tmp_path / "out",
        "--batch_size",
        2,
        "--streams",
        2,
        "--outputs",
        "mask",
    )
    assert (
        status == 2
        and result["images"] == 6
        and [os.path.basename(bad["path"]) for bad in result["unreadable"]] == ["bad.png"]
    )
    for i, size in enumerate(sizes):
        mask, _ = values_of(tmp_path / "out" / "mask" / (f"{i:d}.png"))
        assert (
            mask.shape == size
            and np.mean(mask != Predictor(small_folder()).predict(tmp_path / "in" / (f"{i:d}.png"))) < 0.001
        )


@pytest.mark.parametrize("output_op, joined", [("softmax", "averaged"), ("argmax", "stitched")])
def test_large_images_go_through_sliding_windows(tmp_path, capsys, output_op, joined):
    photo = write_photo(tmp_path / "photo.png", 100, 150)
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        small_folder(output_op),
        "--image_path",
        photo,
        "--save_dir",
        tmp_path / "out",
        "--is_slide",
        "--crop_size",
        64,
        48,
        "--stride",
        40,
        30,
    )
    assert status == 0 and result["windows"] == {"crop_size": [64, 48], "stride": [40, 30], "joined": joined}
    mask, _ = values_of(tmp_path / "out" / "mask" / "photo.png")
    expected = Predictor(small_folder(output_op), is_slide=True, crop_size=(64, 48), stride=(40, 30)).predict(photo)
    assert mask.shape == (100, 150) and np.array_equal(mask, expected)


# --------------------------------------------------------------------------------------------
# Bad input, and what need not be installed
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "give either --image_path PATH (an image, a folder, a list file, a video) or --camera 0"),
        (["--image_path", "photo.png", "--camera", "0"], "give either --image_path PATH"),
        (["--image_path", "nowhere.mp4"], "video nowhere.mp4 does not exist"),
        (["--image_path", "bad.mp4"], "video bad.mp4 cannot be opened: it is damaged, no video"),
        (["--image_path", "videos"], "holds no image, but videos; give one at a time"),
        (["--image_path", "drive.avi", "--grid", "grid.png"], "--grid is for images"),
        (["--image_path", "drive.avi", "--format", "cityscapes"], "--format is for images"),
        (["--image_path", "photo.png", "--max_frames", "3"], "--max_frames is for videos"),
        (["--image_path", "photo.png", "--unknown_below", "0.5"], "unknown_below needs probabilities"),
        (["--image_path", "photo.png", "--unknown_below", "60"], "unknown_below is 60"),
        (
            ["--image_path", "photo.png", "--outputs", "confidence"],
            "--outputs confidence needs probabilities, but the model in",
        ),
        (["--image_path", "drive.avi", "--outputs", "confidence"], "export it with --output_op softmax"),
        (["--image_path", "photo.png", "--outputs", "colors"], "color"),
        (["--image_path", "photo.png", "--crop_size", "64", "64"], "add --is_slide"),
        (["--image_path", "photo.png", "--is_slide"], "give crop_size"),
        (
            ["--image_path", "photo.png", "--is_slide", "--crop_size", "64", "64", "--stride", "80", "64"],
            "would skip pixels",
        ),
        (
            ["--image_path", "photo.png", "--unknown_below", "0.5", "--format", "cityscapes"],
            "--unknown_below cannot go with",
        ),
    ],
)
def test_predict_refuses_bad_input_on_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    write_photo("photo.png")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "drive.mp4").write_bytes(b"no video")
    write_video("drive.avi", 2)
    before = files_in(tmp_path)
    assert main(["predict", "--model_dir", small_folder("argmax"), "--save_dir", "out", *argv]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last
    assert files_in(tmp_path) == before


def test_a_place_that_cannot_be_written_ends_the_run_with_its_name(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    for path in (write_photo(tmp_path / "photo.png"), write_video(tmp_path / "drive.avi")):
        assert (
            main(
                [
                    "predict",
                    "--model_dir",
                    small_folder(),
                    "--image_path",
                    str(path),
                    "--save_dir",
                    str(tmp_path / "out"),
                ]
            )
            == 2
        )
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: cannot write {(tmp_path / 'out')}")


def tiny_onnx(folder):
    """An artifact whose ONNX graph is one convolution and a softmax, made without Paddle."""
    import onnx
    from exported import LABELS, TRANSFORMS
    from onnx import TensorProto, helper, numpy_helper

    from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
    from ppliteseg_paddle.deploy.folder import writing
    from ppliteseg_paddle.deploy.preprocess import Preprocess

    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((11, 3, 1, 1)).astype(np.float32), "w")
    sides = ["batch", None, "height", "width"]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sides[:1] + [channels] + sides[2:])
        for name, channels in (("x", 3), ("y", 11))
    ]
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)]
    with writing(str(folder)) as temporary:
        onnx.save(
            helper.make_model(
                helper.make_graph(nodes, "g", values[:1], values[1:], [weight]),
                ir_version=8,
                opset_imports=[helper.make_opsetid("", 17)],
            ),
            os.path.join(temporary, "model.onnx"),
        )
        Artifact(
            temporary,
            {"type": "Tiny"},
            LABELS,
            Preprocess(TRANSFORMS),
            Tensor("x", "float32", "NCHW", (-1, 3, -1, -1), "RGB"),
            Tensor("y", "float32", "NCHW", (-1, 11, -1, -1), op="softmax"),
            {"onnx": {"model": "model.onnx"}},
            {},
        ).write()


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))),
    reason="onnx and onnxruntime come with the extra 'deploy'",
)
def test_videos_and_confidences_need_neither_paddle_nor_paddleseg(tmp_path):
    tiny_onnx(tmp_path / "export")
    write_video(tmp_path / "drive.mp4", 4)
    code = """
import sys
for name in ("paddle", "paddleseg", "paddle2onnx", "onnx", "matplotlib"):
    sys.modules[name] = None  # importing it raises, as if it were not there
from ppliteseg_paddle.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "predict",
            "--model_dir",
            str(tmp_path / "export"),
            "--image_path",
            str(tmp_path / "drive.mp4"),
            "--save_dir",
            str(tmp_path / "out"),
            "--outputs",
            "overlay",
            "confidence",
            "mask",
            "--unknown_below",
            "0.3",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "4 frames in" in done.stdout and len(files_in(tmp_path / "out")) == 2 + 4

"""Small valid files of each kind, the same ones each time: what mutations start from."""

import io
import os
import pickle
import tarfile
import tempfile
import zipfile

import cv2
import numpy as np
from PIL import Image

SIZE = (16, 24)


def _pixels(seed=0, channels=3):
    """A picture with smooth and noisy parts."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(SIZE[0]) * 9, np.arange(SIZE[1]) * 4)[..., None] + np.arange(channels) * 30
    noise = rng.integers(0, 60, (*SIZE, channels)) * (np.arange(SIZE[1]) > 12)[:, None]
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def picture():
    return _pixels()


def images(extension):
    """As OpenCV and as Pillow write it, in color, gray, and with what else the format has."""
    larger = np.ones((2, 2, 1), np.uint8)  # JPEG 2000 takes no fewer than 32 pixels
    color, gray = np.kron(_pixels(), larger), np.kron(_pixels(1, 1), larger)
    pictures = (color,) if extension == ".ppm" else (color, gray)
    written = [cv2.imencode(extension, picture)[1].tobytes() for picture in pictures]
    if extension in (".png", ".tif"):
        plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if extension == ".tif" else []  # others need imagecodecs
        written.append(cv2.imencode(extension, color.astype(np.uint16) * 257, plain)[1].tobytes())
    kind = {".jpg": "JPEG", ".tif": "TIFF", ".jp2": "JPEG2000", ".ppm": "PPM"}.get(extension, extension[1:].upper())
    options = {".jpg": [{"progressive": True}], ".webp": [{"lossless": True}], ".png": [{"optimize": True}]}
    options[".tif"] = [{"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    exif = Image.Exif()
    exif[0x0112] = 6
    for more in options.get(extension, [{}]):
        if extension in (".jpg", ".webp", ".png"):
            more = {**more, "exif": exif}
        file = io.BytesIO()
        Image.fromarray(color).save(file, kind, **more)
        written.append(file.getvalue())
    return written


def labels(extension):
    """Class ids: gray, of 16 bits, as a palette's indices."""
    ids = np.random.default_rng(2).integers(0, 11, SIZE).astype(np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette(list(range(33)), "RGB")
    pictures = [palette, Image.fromarray(ids)] if extension != ".webp" else [Image.fromarray(ids)]
    if extension in (".png", ".tif"):
        pictures.append(Image.fromarray(ids.astype(np.uint16)))
    made = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, {".tif": "TIFF"}.get(extension, extension[1:].upper()))
        made.append(file.getvalue())
    return made


def state():
    rng = np.random.default_rng(3)
    return {
        "backbone.conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "head.bias": rng.standard_normal(5).astype(np.float16),
        "steps": np.arange(6).reshape(2, 3)[:, ::-1],
    }


def pdparams():
    more = {"LR_Scheduler": {"last_epoch": 3, "last_lr": 0.01}, "StructuredToParameterName@@": {"a": "b"}}
    return [pickle.dumps(content, protocol) for protocol in (2, 4) for content in (state(), {**state(), **more})]


def safetensors():
    from safetensors.numpy import save

    return [save({name: np.ascontiguousarray(array) for name, array in state().items()}, {"format": "np"})]


def torch_file(form):
    """`form`: "zip" or "legacy"."""
    from torch_format import WRITERS, Tensor

    content = {"state_dict": {name: Tensor(np.ascontiguousarray(value)) for name, value in state().items()}, "epoch": 3}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "w.pth")
        WRITERS[form](path, content)
        with open(path, "rb") as file:
            return [file.read()]


_MEMBERS = {"./notes.txt": b"notes", "deep/er/model.pdparams": pickle.dumps(state(), 2), "deep/": None}


def tar(mode):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in _MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return [file.getvalue()]


def zip_archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name), content or b"")
    return [file.getvalue()]


def config():
    from tiny_data import values

    changes = {
        "test_config": {"is_slide": True, "crop_size": [32, 32], "stride": [16, 16]},
        "to_static_training": False,
    }
    return values("data", **changes)


def lists():
    return [b"a.png a.png\na.png\td.png\n# note\n\nx.png y.png\n", b"\xef\xbb\xbfa.png x.png\r\n"]


def palettes():
    return [b"128 64 128 road\n0 0 0 void\n", b"#ff8000 car\n1,2,3,tree\n"]


LABELME = {
    "shapes": [
        {"label": "car", "points": [[1, 2], [20, 3], [9, 12]], "shape_type": "polygon"},
        {"label": "road", "points": [[1, 2], [20, 13]], "shape_type": "rectangle"},
        {"label": "car", "points": [[5, 5], [8, 8]], "shape_type": "circle"},
        {"label": "road", "points": [[5, 5], [8, 8], [9, 2]], "shape_type": "linestrip"},
    ],
    "imageHeight": SIZE[0],
    "imageWidth": SIZE[1],
}
_RLE = {"counts": [90, 50, 244], "size": list(SIZE)}
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
    "categories": [{"id": 7, "name": "car"}, {"id": 9, "name": "road"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "iscrowd": 0, "area": 20, "segmentation": [[1, 2, 20, 3, 9, 12]]},
        {"id": 2, "image_id": 1, "category_id": 9, "iscrowd": 1, "area": 9, "segmentation": _RLE},
    ],
}


def video(extension):
    from ppliteseg_paddle.deploy.video import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(os.path.join(folder, "v" + extension), 12.0) as out:
            for index in range(6):
                out.write(np.roll(np.kron(_pixels(), np.ones((3, 4, 1), np.uint8)), 5 * index, axis=1))
        with open(out.path, "rb") as file:
            return [file.read()]


def onnx_export(folder):
    """A network of one convolution as ONNX and OpenVINO."""
    import openvino
    from tiny_onnx import tiny_artifact

    artifact = tiny_artifact(folder)
    openvino.save_model(
        openvino.Core().read_model(artifact.path_of("onnx", "model")), os.path.join(folder, "model.xml")
    )
    artifact.graphs["openvino"] = {"model": "model.xml", "weights": "model.bin"}
    artifact.write()


def paddle_export(folder):
    import shutil

    from exported import small_folder

    shutil.copytree(small_folder("argmax", (1, 3, *SIZE)), folder, dirs_exist_ok=True)

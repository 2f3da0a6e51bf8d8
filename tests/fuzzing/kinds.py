"""The kinds of input: one table. A row says what valid files are, how they are changed, and what reads them."""

import itertools
import json
import os
import shutil
from dataclasses import dataclass
from typing import Callable

import pickle_programs
import yaml

from fuzzing import files, mutations


@dataclass(frozen=True)
class Kind:
    """Args:
    share: of all inputs.
    suffix: of the file's name.
    make: gives the valid files' contents; its argument is a folder where exports are kept.
    read: of a path; what `ppliteseg` does with such a file.
    change: (rng, one of the contents, all of them) -> content.
    """

    share: float
    suffix: str
    make: Callable
    read: Callable
    change: Callable = mutations.mutate_bytes


def _one_of(*changes):
    return lambda rng, content, others: rng.choice(changes)(rng, content, others)


def _as_tree(load, dump):
    """Changed as a tree, as a text, or as bytes."""

    def change(rng, content, others):
        way, tree = rng.randrange(4), load(content)
        text = dump(mutations.mutate_tree(rng, tree) if way != 3 else tree)
        if way >= 2:
            text = mutations.mutate_text(rng, text)
        content = text.encode("utf-8", "surrogatepass")
        return mutations.mutate_bytes(rng, content) if rng.random() < 0.1 else content

    return change


def _dump_yaml(tree):
    return yaml.dump(tree, sort_keys=False, allow_unicode=True)


_yaml, _json = _as_tree(yaml.safe_load, _dump_yaml), _as_tree(json.loads, json.dumps)


def _text(rng, content, others):
    if rng.random() < 0.3:
        return mutations.mutate_bytes(rng, content, others)
    return mutations.mutate_text(rng, content.decode()).encode("utf-8", "surrogatepass")


def _options(rng, content, others):
    """A value of --opts: a key of the configuration and a value, changed as texts."""
    places, tree = [[]], files.config()
    while isinstance(tree, (dict, list)) and tree:
        key = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        places.append([*places[-1], str(key)])
        tree = tree[key]
    option = ".".join(rng.choice(places)) + "=" + repr(rng.choice(mutations.VALUES))
    return (mutations.mutate_text(rng, option) if rng.random() < 0.7 else option).encode("utf-8", "surrogatepass")


# --------------------------------------------------------------------------------------------
# Readers
# --------------------------------------------------------------------------------------------
def _config(path, opts=()):
    from ppliteseg_paddle.config.components import check_components
    from ppliteseg_paddle.config.read import load

    values, source = load(path, opts)
    check_components(values, source)


def _read_options(path):
    config = os.path.join(os.path.dirname(path), "c.yml")
    with open(path, encoding="utf-8", errors="surrogatepass", newline="") as file, open(config, "w") as written:
        yaml.safe_dump(files.config(), written)
        option = file.read()
    _config(config, [option])


def _all_of(*readers):
    """Each reader is tried, whatever those before it said; the first error is the result."""

    def read(path):
        from ppliteseg_paddle.errors import PPLiteSegError

        errors = []
        for reader in readers:
            try:
                reader(path)
            except PPLiteSegError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    return read


def _image(path):
    from ppliteseg_paddle.reading import images

    images.image_size(path)
    images.image_mode(path)
    for channels in (3, images.channels_of(path)):
        images.read_image(path, channels, ((0.0, 65535.0),))  # of any depth


def _label(path):
    from ppliteseg_paddle.reading.labels import check_label, read_label

    check_label(read_label(path), path, 11, 255)


def _mask(path):
    from ppliteseg_paddle.data.prepare.mask_facts import facts_of
    from ppliteseg_paddle.reading.color_masks import read_rgb

    read_rgb(path)
    facts_of(path)


def _list(path):
    from ppliteseg_paddle.reading.lists import read_list

    read_list(path)


def _images_of_a_list(path):
    from ppliteseg_paddle.deploy.sources import find_images

    for name in ("a.png", "d.png", "x.png", "y.png"):
        open(os.path.join(os.path.dirname(path), name), "w").close()
    find_images(path)


def _names(path):
    from ppliteseg_paddle.reading.lists import read_names

    read_names(path)


def _palette(path):
    from ppliteseg_paddle.reading.palettes import read_colors

    read_colors(path)


def _weights(path):
    from ppliteseg_paddle.weights.read import read_state_dict

    for array in read_state_dict(path).values():
        array.sum()


def _optimizer(path):
    from ppliteseg_paddle.weights.read import check_pickle

    check_pickle(path)


def _labelme(path):
    from ppliteseg_paddle.data.prepare.annotations import labelme_label, labelme_names

    labelme_names(path)
    labelme_label(path, files.SIZE[::-1], ["road", "car"])


def _coco(path):
    from ppliteseg_paddle.data.prepare.annotations import Coco

    coco = Coco(path)
    for name in coco.files:
        coco.label(name)


def _video(path):
    from ppliteseg_paddle.deploy.video import VideoReader

    with VideoReader(path) as video:
        for _ in itertools.islice(video, 20):
            pass


def _in_export(name, backend):
    """Reads the file in the place of `name` in an export whose hashes are right, and predicts an image."""

    def read(path):
        from ppliteseg_paddle.deploy.folder import file_record
        from ppliteseg_paddle.deploy.predictor import Predictor

        folder = os.path.join(os.path.dirname(path), "export")
        shutil.copytree(_EXPORTS[backend], folder, dirs_exist_ok=True)
        shutil.copy(path, os.path.join(folder, name))
        metadata = os.path.join(folder, "deploy.yaml")
        if name != "deploy.yaml":
            with open(metadata) as file:
                values = yaml.safe_load(file)
            values["files"][name] = file_record(os.path.join(folder, name))
            with open(metadata, "w") as file:
                yaml.safe_dump(values, file)
        Predictor(folder, backend=backend, num_threads=1).predict(files.picture())

    return read


_EXPORTS = {}  # backend -> folder of a valid export


def _export(name, backend):
    """The valid file that is changed: one of an export, which is kept beside for `_in_export`."""

    def make(folder):
        made = os.path.join(folder, "paddle" if backend == "paddle" else "onnx")
        if not os.path.isdir(made):
            partial = made + ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            os.makedirs(partial)
            (files.paddle_export if backend == "paddle" else files.onnx_export)(partial)
            os.rename(partial, made)
        _EXPORTS[backend] = made
        with open(os.path.join(made, name), "rb") as file:
            return [file.read()]

    return make


# --------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------
_png = _one_of(mutations.mutate_bytes, mutations.mutate_png, mutations.mutate_png)
_zip = _one_of(mutations.mutate_bytes, mutations.mutate_zip)
_tar = _one_of(mutations.mutate_bytes, mutations.mutate_tar, mutations.mutate_tar)


def _made(make, *arguments):
    return lambda folder: make(*arguments)


def _json_file(tree):
    return lambda folder: [json.dumps(tree).encode()]


def _picture(share, extension, make, read):
    change = _png if extension == ".png" else mutations.mutate_bytes
    return Kind(share, extension, _made(make, extension), read, change)


def _graph(share, name, backend, *changes):
    change = _one_of(mutations.mutate_bytes, *changes)
    return Kind(share, os.path.splitext(name)[1], _export(name, backend), _in_export(name, backend), change)


_IMAGES = (".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm", ".jp2")
_LABELS = (".png", ".tif", ".gif", ".bmp")
_PROGRAM = pickle_programs.state_dict(pickle_programs.array())

KINDS = {
    "config": Kind(9, ".yml", lambda folder: [_dump_yaml(files.config()).encode()], _config, _yaml),
    "options": Kind(3, ".txt", lambda folder: [b"batch_size=2", b"loss.coef.1=0.25"], _read_options, _options),
    "list": Kind(4, ".txt", _made(files.lists), _all_of(_list, _images_of_a_list), _text),
    "names": Kind(2, ".txt", lambda folder: [b"road\ncar\n\xc3\xbc\n"], _names, _text),
    "palette": Kind(2, ".txt", _made(files.palettes), _palette, _text),
    **{f"image{extension}": _picture(3, extension, files.images, _image) for extension in _IMAGES},
    **{f"label{extension}": _picture(2, extension, files.labels, _all_of(_label, _mask)) for extension in _LABELS},
    "mask.webp": _picture(2, ".webp", files.labels, _mask),
    "weights.pdparams": Kind(5, ".pdparams", _made(files.pdparams), _all_of(_weights, _optimizer)),
    "weights.safetensors": Kind(4, ".safetensors", _made(files.safetensors), _weights),
    "weights.pth": Kind(4, ".pth", _made(files.torch_file, "zip"), _weights, _zip),
    "weights.legacy.pth": Kind(4, ".pth", _made(files.torch_file, "legacy"), _weights),
    "weights.program": Kind(
        4,
        ".pdparams",
        lambda folder: [_PROGRAM],
        _weights,
        lambda rng, content, others: pickle_programs.random_program(rng.random()),
    ),
    "archive.tar": Kind(3, ".tar", _made(files.tar, "w"), _weights, _tar),
    "archive.tar.gz": Kind(2, ".tar.gz", _made(files.tar, "w:gz"), _weights, _tar),
    "archive.tar.xz": Kind(2, ".tar.xz", _made(files.tar, "w:xz"), _weights, _tar),
    "archive.zip": Kind(3, ".zip", _made(files.zip_archive), _weights, _zip),
    "annotations.labelme": Kind(2, ".json", _json_file(files.LABELME), _labelme, _json),
    "annotations.coco": Kind(2, ".json", _json_file(files.COCO), _coco, _json),
    "video.avi": Kind(2, ".avi", _made(files.video, ".avi"), _video),
    "video.mp4": Kind(2, ".mp4", _made(files.video, ".mp4"), _video),
    "deploy.yaml": Kind(
        6, ".yaml", _export("deploy.yaml", "onnxruntime"), _in_export("deploy.yaml", "onnxruntime"), _yaml
    ),
    "graph.onnx": _graph(3, "model.onnx", "onnxruntime", mutations.mutate_onnx, mutations.mutate_onnx),
    "graph.xml": _graph(2, "model.xml", "openvino", mutations.mutate_xml, mutations.mutate_xml),
    "graph.bin": _graph(1, "model.bin", "openvino"),
    "graph.json": _graph(2, "model.json", "paddle", _json, _json),
    "graph.pdiparams": _graph(2, "inference.pdiparams", "paddle"),
}

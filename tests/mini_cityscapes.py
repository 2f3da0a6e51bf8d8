"""A miniature Cityscapes in the official layout, of generated scenes, written by the tests that need one."""

import json

import cv2
import numpy as np

# Names of Cityscapes for CamVid's classes, in their order; most of the 19 do not occur.
NAMES = ("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "rider")


def make_cityscapes(root, train=2, val=2, test=1, size=(256, 128), factor=8, seed=0, polygons=True):
    """Write leftImg8bit/ and gtFine/ of scenes drawn at `size` and enlarged `factor` times. Returns the frames' names.

    Labels are polygons, as published, and label ids that the official package draws of them; the top rows are
    unlabelled, and a license plate (id -1) lies on each road.
    """
    from cityscapesscripts.preparation.json2labelImg import json2labelImg

    from ppliteseg_paddle.synth.scene import render_scene

    rng = np.random.default_rng(seed)
    names = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for index in range(count):
            city = {"train": "aachen", "val": "lindau", "test": "berlin"}[split]
            name = f"{city}_{index:06d}_{19:06d}"
            folders = [root / "leftImg8bit" / split / city, root / "gtFine" / split / city]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            image, label = render_scene(rng, size)
            width, height = size[0] * factor, size[1] * factor
            cv2.imwrite(
                str(folders[0] / (name + "_leftImg8bit.png")),
                cv2.resize(image, (width, height)),
                [cv2.IMWRITE_PNG_COMPRESSION, 1],
            )
            path = folders[1] / (name + "_gtFine_polygons.json")
            path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": _objects(label, factor)}))
            json2labelImg(str(path), str(path).replace("_polygons.json", "_labelIds.png"), "ids")
            if not polygons:
                path.unlink()
            names.append(name)
    return names


def _objects(label, factor):
    objects = []
    for i, name in enumerate(NAMES):
        outlines, _ = cv2.findContours((label == i).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:
            points = (outline[:, 0] * factor).tolist()
            if len(points) >= 3:
                objects.append({"label": name, "polygon": points})
    height, width = label.shape[0] * factor, label.shape[1] * factor
    objects.append({"label": "static", "polygon": [[0, 0], [width, 0], [width, height // 16], [0, height // 16]]})
    objects.append(
        {"label": "license plate", "polygon": [[8, height - 16], [40, height - 16], [40, height - 8], [8, height - 8]]}
    )
    objects.append(
        {"label": "cargroup", "polygon": [[60, height - 40], [120, height - 40], [120, height - 8], [60, height - 8]]}
    )
    return objects


def official(predictions, truths):
    """Class IoU average of `cityscapesscripts` for files of label ids."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation

    evaluation.args.quiet, evaluation.args.JSONOutput, evaluation.args.evalInstLevelScore = True, False, False
    return evaluation.evaluateImgLists(
        [str(path) for path in predictions], [str(path) for path in truths], evaluation.args
    )

"""What tests of commands share: running one, the files that it takes, and those that it leaves."""

import json
from pathlib import Path

import cv2
import numpy as np
from exported import photograph
from PIL import Image

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.video import VideoWriter
from ppliteseg_paddle.outputs import MANIFEST


def run_json(capsys, *argv):
    """Exit status, and the result that --json prints."""
    status = main([*map(str, argv), "--json"])
    return status, json.loads(capsys.readouterr().out)


def write_video(path, count=12, height=64, width=96):
    with VideoWriter(path, 12) as out:
        for i in range(count):
            out.write(np.roll(photograph(height, width), 2 * i, axis=1))
    return out.path


def write_photo(path, height=64, width=96):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photograph(height, width))
    return path


def files_in(folder):
    """Relative paths of the files below a folder, but for the list of what was written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return sorted(str(path.relative_to(folder)) for path in files)


def values_of(path):
    """The pixels of an image file as they are stored, and their mode."""
    with Image.open(path) as file:
        return np.asarray(file), file.mode

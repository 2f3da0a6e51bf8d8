"""Colors that stay apart, and palette files."""

import numpy as np
import pytest

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.palettes import COLORS, read_colors

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colors, sight):
    values = np.asarray(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ np.array(SIGHTS[sight]).T
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear.clip(0, 1) @ to_xyz.T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("sight", SIGHTS)
def test_neighbouring_classes_and_the_first_twelve_stay_apart_for_every_sight(sight):
    points = lab(COLORS, sight)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).min() >= 30
    first = np.linalg.norm(points[:12, None] - points[None, :12], axis=-1) + np.eye(12) * 100
    assert first.min() >= 20


def test_there_are_256_different_colors():
    assert len(set(COLORS)) == len(COLORS) == 256


def test_palette_files_take_numbers_before_or_after_the_name_or_a_code(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("// CamVid's own form\n128 64 128\troad\nside walk, 0, 0, 192\n\n#ff8000 car\n0 0 0\n")
    assert read_colors(str(path)) == [
        ((128, 64, 128), "road"),
        ((0, 0, 192), "side walk"),
        ((255, 128, 0), "car"),
        ((0, 0, 0), ""),
    ]


@pytest.mark.parametrize(
    "text, words",
    [
        ("1 2\n", "p.txt:1: expected 'R G B name'"),
        ("1 2 256 a\n", "p.txt:1: expected"),
        ("\n", "is empty"),
        ("1 2 3 a\n4 5 6 b\n1 2 3 c\n", "p.txt:3: the color 1 2 3 is that of line 1"),
    ],
)
def test_broken_palette_files_are_reported_with_their_line(tmp_path, text, words):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_colors(str(tmp_path / "p.txt"))

"""Images of any channels, depth and file type, written by the tests that need them."""

import cv2
import numpy as np
import tifffile

# depth -> type, largest value
DEPTHS = {"8": (np.uint8, 255), "12": (np.uint16, 4095), "16": (np.uint16, 65535), "float": (np.float32, 1.0)}
# (channels, depth, file type): all that there are.
CELLS = [
    (channels, depth, suffix)
    for suffix, limit in ((".png", 4), (".tif", 10), (".npy", 10))
    for channels in (1, 3, 4, 10)
    for depth in DEPTHS
    if channels <= limit and not (suffix == ".png" and depth == "float")
]
# Of UTM zone 33 north, 10 m: pixel scale, tie point, keys.
GEO_TAGS = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0), True),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
]


def values(channels, depth, size=(48, 64), seed=0):
    """(H, W, C), of one channel (H, W), in the file's order, from 0 to the largest value."""
    dtype, top = DEPTHS[depth]
    pixels = np.random.default_rng(seed).uniform(0, 1, (*size, channels))
    pixels.flat[:2] = 0, 1
    pixels = (pixels * top).astype(dtype)
    return pixels[..., 0] if channels == 1 else pixels


def save(path, pixels, **tags):
    """Write pixels as `path.suffix` says. Returns: the path as text."""
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        color = pixels.ndim == 3 and pixels.shape[2] == 3
        planes = {"planarconfig": "contig"} if pixels.ndim == 3 else {}
        kind = "rgb" if color else "minisblack"
        tifffile.imwrite(path, pixels, photometric=kind, metadata=None, compression="zlib", **planes, **tags)
    else:
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[1 if pixels.ndim == 2 else pixels.shape[2]]
        path.write_bytes(cv2.imencode(path.suffix, pixels if pixels.ndim == 2 else pixels[..., order])[1].tobytes())
    return str(path)


def make_scenes(root, channels, depth, suffix, count=5, size=(64, 64), **tags):
    """`count` images of three materials, and masks of their ids, in root/images and root/masks."""
    rng = np.random.default_rng(0)
    dtype, top = DEPTHS[depth]
    spectra = rng.uniform(0.15, 0.85, (3, channels))
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 2 + rng.integers(-9, 9) :] = 1
        left = int(rng.integers(0, size[1] // 2))
        mask[10:30, left : left + 20] = 2
        pixels = np.clip(spectra[mask] + rng.normal(0, 0.05, (*size, channels)), 0, 1) * top
        pixels = pixels.astype(dtype)
        save(root / "images" / f"{i}{suffix}", pixels[..., 0] if channels == 1 else pixels, **tags)
        cv2.imwrite(str(root / "masks" / f"{i}.png"), mask)

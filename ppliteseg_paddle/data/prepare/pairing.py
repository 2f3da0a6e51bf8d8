"""Which mask belongs to which image, by their names, whatever prefixes and suffixes the names carry."""

from __future__ import annotations

import collections
import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError

_SAMPLE = 8  # images whose names are compared with all masks' names
_CANDIDATES = 100  # patterns of which the matches are counted


class Pattern(NamedTuple):
    """What stands before and after the part of the name that image and mask share."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""


class Pairing(NamedTuple):
    pairs: list[tuple[str, str]]
    images_alone: list[str]
    masks_alone: list[str]
    pattern: Pattern | None  # None where annotations name the images


def find_files(folder: str, extensions: Sequence[str]) -> list[str]:
    """Files of a folder and its sub-folders, sorted. Raises: DataError: if there is no such folder, or none of them."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder} is no folder.")
    found = sorted(
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(tuple(extensions)) and not name.startswith(".")
    )
    if not found:
        raise DataError(f"{folder} holds no file of these kinds: {', '.join(extensions)}.")
    return found


def pair_by_name(images: Sequence[str], masks: Sequence[str], image_root: str, mask_root: str) -> Pairing:
    """Find each image's mask.

    Raises: DataError: if no pattern of names fits, or two fit equally well.
    """
    tried = {}
    for pattern in [Pattern()] + _likely_patterns(images, masks):
        matched = _match(images, masks, image_root, mask_root, pattern)
        if matched:
            tried[pattern] = matched
        if len(matched) == len(images) == len(masks):
            break
    if not tried:
        raise DataError(
            f"no mask of {mask_root} has a name like an image of {image_root} ({os.path.basename(images[0])} and "
            f"{os.path.basename(masks[0])}): give masks the names of their images."
        )
    best = max(tried, key=lambda pattern: len(tried[pattern]))
    for pattern, matched in tried.items():
        if len(matched) == len(tried[best]) and not set(matched.values()) & set(tried[best].values()):
            raise DataError(
                f"each image has several masks in {mask_root}: '*{best.mask_suffix or best.mask_prefix}' and "
                f"'*{pattern.mask_suffix or pattern.mask_prefix}' fit equally well; choose with --mask_suffix."
            )
    matched = tried[best]
    used = set(matched.values())
    return Pairing(
        [(image, matched[image]) for image in images if image in matched],
        [image for image in images if image not in matched],
        [mask for mask in masks if mask not in used],
        best,
    )


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _likely_patterns(images, masks) -> list[Pattern]:
    count: collections.Counter = collections.Counter()
    step = max(1, len(images) // _SAMPLE)
    for image in images[::step][:_SAMPLE]:
        a = _stem(image)
        for mask in masks:
            b = _stem(mask)
            i, j, size = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match(0, len(a), 0, len(b))
            if size:
                count[Pattern(a[:i], a[i + size :], b[:j], b[j + size :])] += 1
    # Longer affixes explain less by chance only where they match more, which the counting then shows.
    return [pattern for pattern, _ in count.most_common(_CANDIDATES)]


def _match(images, masks, image_root, mask_root, pattern: Pattern) -> dict[str, str]:
    """Image -> mask under a pattern; with folders as part of the name where base names occur twice."""
    for with_folder in (False, True):
        image_keys = _keys(images, image_root, pattern.image_prefix, pattern.image_suffix, with_folder)
        mask_keys = _keys(masks, mask_root, pattern.mask_prefix, pattern.mask_suffix, with_folder)
        if image_keys is not None and mask_keys is not None:
            return {image: mask_keys[key] for key, image in image_keys.items() if key in mask_keys}
    return {}


def _keys(paths, root: str, prefix: str, suffix: str, with_folder: bool) -> dict[tuple, str] | None:
    found: dict[tuple, str] = {}
    for path in paths:
        stem = _stem(path)
        if stem.startswith(prefix) and stem.endswith(suffix) and len(stem) > len(prefix) + len(suffix):
            folder = os.path.dirname(os.path.relpath(path, root)) if with_folder else ""
            key = (folder, stem[len(prefix) : len(stem) - len(suffix)])
            if key in found:
                return None
            found[key] = path
    return found

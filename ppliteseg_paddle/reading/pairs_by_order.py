"""Pairs that come of two sorted folders, one by one: where one label is missing, all later images get a neighbor's."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence

from ppliteseg_paddle.errors import DataError

_NEIGHBORS = 5  # labels before and after an image's own place that may be its own
_ADVICE = "Add the missing files, or remove those without a partner."
_Affixes = tuple[str, str]  # what stands before and after the part of a name that image and label share


def check_order(pairs: Sequence[Sequence[str]]) -> None:
    """See that each image has its own label, as far as names tell, those of its folder that are left over included.

    Args: pairs: (image, label) paths.
    Raises: DataError: naming the first image or label without a partner.
    """
    images, labels = _with_neighbors([pair[0] for pair in pairs]), [pair[1] for pair in pairs]
    of_image, of_label = _pattern([_stem(path) for path in images], [_stem(path) for path in labels])
    image_keys = {_key(_stem(path), of_image): path for path in images}
    before, after = of_label  # other files beside labels, such as those in color, have other names
    alike = [path for path in _with_neighbors(labels) if _stem(path).startswith(before) and _stem(path).endswith(after)]
    label_keys = {_key(_stem(path), of_label): path for path in alike}
    common = len(set(image_keys) & set(label_keys))
    if common < len(labels) / 2:  # the names say nothing
        if len(images) > len(pairs):
            raise DataError(f"there are {len(images):d} images, but {len(pairs):d} labels. {_ADVICE}")
        return
    for (keys, others), what in (
        ((image_keys, label_keys), "image {} has no label"),
        ((label_keys, image_keys), "label {} has no image"),
    ):
        alone = [path for key, path in keys.items() if key not in others]
        if alone:
            raise DataError(f"{what.format(alone[0])}, so that all pairs after it would be shifted. {_ADVICE}")
    for image, label in pairs:
        if _key(_stem(image), of_image) != _key(_stem(label), of_label):
            raise DataError(
                f"image {image} would be paired with {label}: give the labels names that sort as the images do."
            )


def _with_neighbors(paths: Sequence[str]) -> list[str]:
    """The files, and the others of their kind in their folders, sorted."""
    extensions = {os.path.splitext(path)[1] for path in paths}
    found = set(paths)
    for folder in {os.path.dirname(path) for path in paths}:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if os.path.splitext(name)[1] in extensions:
                found.add(os.path.join(folder, name))
    return sorted(found)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _key(stem: str, affixes: _Affixes) -> str:
    before, after = affixes
    fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
    return stem[len(before) : len(stem) - len(after)] if fits else stem


def _pattern(images: Sequence[str], labels: Sequence[str]) -> tuple[_Affixes, _Affixes]:
    """What surrounds the shared part of the names, so that most images find a label."""

    def found(pattern: tuple[_Affixes, _Affixes]) -> int:
        return len({_key(image, pattern[0]) for image in images} & {_key(label, pattern[1]) for label in labels})

    return max(_candidates(images, labels), key=found)


def _candidates(images: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[_Affixes, _Affixes]]:
    yield ("", ""), ("", "")
    for place in {0, len(labels) // 2, len(labels) - 1}:
        b = labels[place]
        for a in images[max(0, place - _NEIGHBORS) : place + _NEIGHBORS + 1]:
            i, j, size = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match(0, len(a), 0, len(b))
            shared, ends = a[i : i + size], (a[:i], a[i + size :], b[:j], b[j + size :])
            if size and not _splits_number(shared, ends):
                yield ends[:2], ends[2:]


def _splits_number(shared: str, ends: tuple[str, str, str, str]) -> bool:
    """Whether a number lies partly in the shared part: 000139 and 000285 are two names, not 000 with endings."""
    before, after = shared[0].isdigit(), shared[-1].isdigit()
    return any(
        (before and end[-1:].isdigit()) if place % 2 == 0 else (after and end[:1].isdigit())
        for place, end in enumerate(ends)
    )

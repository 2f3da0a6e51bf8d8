"""What can be wrong with a data set: how grave it is, what it does in training, and the fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
FIRST = 5  # files that a finding names


@dataclass(frozen=True)
class Kind:
    """A row of `KINDS`."""

    severity: str
    title: str
    effect: str
    fix: str


KINDS: dict[str, Kind] = {
    "missing": Kind(
        ERROR,
        "files that do not exist",
        "training ends when it comes to one",
        "correct the list or dataset_root, or take the lines off the list",
    ),
    "unreadable": Kind(
        ERROR,
        "files that cannot be decoded",
        "training ends when it comes to one",
        "copy or download them again, or take them off the list",
    ),
    "image_form": Kind(
        ERROR,
        "images of another depth or number of channels than the configuration says",
        "training ends when it comes to one",
        "write img_channels and img_range in the data sets' blocks as said above, or convert the images",
    ),
    "channels": Kind(
        ERROR,
        "labels with several channels",
        "the loss takes one class id a pixel, not a color",
        "convert the colors to ids: ppliteseg data prepare folder --images DIR --masks DIR",
    ),
    "planes": Kind(
        ERROR,
        "labels that do not hold a plane of 0 and 1 for each class",
        "training ends when it comes to one",
        "write the planes of a label side by side, num_classes times as wide as its image, or leave use_multilabel out",
    ),
    "size": Kind(
        ERROR,
        "labels of another size than their image",
        "crops of image and label do not fit together, and the batch fails",
        "make the labels again from the images, or resize them with nearest-neighbour interpolation",
    ),
    "values": Kind(
        ERROR,
        "labels with values outside the classes",
        "the loss reads beyond its classes: a CUDA assert on a GPU, garbage on a CPU",
        "map them to class ids or to the ignored value, or raise num_classes; ppliteseg data prepare folder does it",
    ),
    "same_file": Kind(
        ERROR,
        "pairs whose label is the image itself",
        "the image's gray values would be taken for classes",
        "correct the list: 'image label' a line",
    ),
    "one_class": Kind(
        ERROR,
        "all labels hold the same single class",
        "the model learns to answer it everywhere",
        "binary masks of 0 and 255 need 255 -> 1 (ppliteseg data prepare folder does it); else look at how the labels "
        "were made",
    ),
    "no_labels": Kind(
        ERROR,
        "no pixel is labelled in the data set",
        "the loss is empty (nan or 0) and nothing is learnt",
        "look at ignore_index and at how the labels were made",
    ),
    "shapes": Kind(
        ERROR,
        "images that do not fit through the transforms",
        "training ends at the first batch, or the first evaluation, with one of them",
        "see the line above",
    ),
    "few": Kind(
        ERROR,
        "fewer images than one batch",
        "the training loop would wait for a full batch for ever",
        "use a smaller batch_size, or add images",
    ),
    "skipped": Kind(
        WARNING,
        "files that cannot be read, few enough to train without",
        "they are skipped, and reported by name",
        "copy or download them again, or take them off the list",
    ),
    "empty_label": Kind(
        WARNING,
        "labels without a single labelled pixel",
        "these images teach nothing; a batch of them alone gives no gradient",
        "label them, or take them off the list",
    ),
    "mixed_binary": Kind(
        WARNING,
        "labels of 0 and 255 beside labels of 0 and 1",
        "255 is ignored, so these labels have no foreground",
        "make all of them 0 and 1: ppliteseg data prepare folder --remap 255=1",
    ),
    "duplicate": Kind(
        WARNING, "images that occur more than once", "they weigh more than the others", "take the copies off the list"
    ),
    "contradiction": Kind(
        WARNING,
        "equal images with different labels",
        "the model is taught two answers to one question",
        "keep the right label, take the other pair off the list",
    ),
    "leak": Kind(
        WARNING,
        "images that are in train and in val",
        "the evaluation flatters: it asks what was learnt by heart",
        "take them off one of the lists",
    ),
    "absent_class": Kind(
        WARNING,
        "classes that no training label holds",
        "they can never be predicted, and count as IoU 0 in mIoU",
        "check names and ids of the classes, or lower num_classes",
    ),
    "absent_in_val": Kind(
        NOTE,
        "classes that no validation label holds",
        "each counts as IoU 0 in mIoU; mIoU_present skips them",
        "move images with them to the validation list, or compare by mIoU_present",
    ),
    "small": Kind(
        NOTE,
        "images smaller than the training crop",
        "they are padded, and the padding is not learnt from",
        "use a smaller crop_size, or larger images",
    ),
    "channels_of_image": Kind(
        NOTE,
        "images that are not color",
        "gray is repeated three times, transparency dropped",
        "nothing, if that is what you want",
    ),
}


@dataclass
class Finding:
    """What was found in one split: how many files, and what is said of the first ones."""

    kind: str
    split: str
    count: int = 0
    first: list[str] = field(default_factory=list)
    hint: str = ""

    def add(self, message: str) -> None:
        self.count += 1
        if len(self.first) < FIRST:
            self.first.append(message)

    def to_dict(self) -> dict[str, Any]:
        row = KINDS[self.kind]
        return {
            "kind": self.kind,
            "severity": row.severity,
            "split": self.split,
            "count": self.count,
            "title": row.title,
            "first": list(self.first),
            "effect": row.effect,
            "fix": self.hint or row.fix,
        }


class Findings:
    """Findings by kind and split, in the table's order."""

    def __init__(self):
        self._held: dict[tuple, Finding] = {}

    def add(self, kind: str, split: str, message: str, hint: str = "") -> None:
        finding = self._held.setdefault((kind, split), Finding(kind, split))
        finding.hint = hint or finding.hint
        finding.add(message)

    def rename(self, kind: str, split: str, other: str) -> None:
        """Call the findings of a kind by another one."""
        finding = self._held.pop((kind, split), None)
        if finding:
            known = self._held.setdefault((other, split), Finding(other, split))
            known.count += finding.count
            known.first = (known.first + finding.first)[:FIRST]

    def of(self, kind: str, split: str):
        return self._held.get((kind, split))

    def rows(self) -> list[dict[str, Any]]:
        order = list(KINDS)
        return [
            self._held[key].to_dict()
            for key in sorted(self._held, key=lambda key: (order.index(key[0]), key[1] != "train", key[1]))
        ]

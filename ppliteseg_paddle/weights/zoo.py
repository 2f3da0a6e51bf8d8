"""Published weights by name: the table `zoo.yml`, and the files that its names stand for.

Those of this project lie in the package, in `shipped/NAME`, with an INT8 export each. All others are downloaded, and
kept in `PPLITESEG_HOME`/weights, or ~/.cache/ppliteseg/weights, each under its name in the table. Where the
table has no hash of a file, its first use records it there, in `checksums.json`: another file in its place is refused.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
from dataclasses import dataclass
from typing import Any

import yaml

from ppliteseg_paddle.errors import DownloadError, PPLiteSegError, WeightsError, suggest
from ppliteseg_paddle.files import home_folder, read_json, sha256_of, write_json
from ppliteseg_paddle.weights import download

_HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(_HERE, "zoo.yml")
SHIPPED = os.path.join(_HERE, "shipped")
# The model of `predict` where no other is named.
DEFAULT = "camvid-t"
CHECKSUMS = "checksums.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Published:
    """A row of the table; see the head of `zoo.yml`."""

    name: str
    network: str
    measured_on: str
    source: str
    address: str | None = None
    page: str | None = None
    file: str | None = None
    classes: int | None = None
    config: str | None = None
    miou: float | None = None
    sha256: str | None = None
    size: int | None = None
    shipped: bool = False

    @property
    def path(self) -> str:
        """Where its file is kept."""
        if self.shipped:
            return os.path.join(SHIPPED, self.name, "model.safetensors")
        file = self.file or os.path.basename(self.address or "")
        extension = re.search(r"(\.tar\.gz|\.[a-z]+)?$", file)
        return os.path.join(folder(), self.name + (extension.group() if extension else ""))


@functools.cache
def published() -> dict[str, Published]:
    """All rows of the table, by name."""
    with open(TABLE, encoding="utf-8") as file:
        return {name: Published(name, **row) for name, row in yaml.safe_load(file).items()}


def folder() -> str:
    """Where the files are kept."""
    return os.path.join(home_folder(), "weights")


def find(text: str) -> Published | None:
    """The row that `text` names; None for an address, or a path of anything that exists or has a folder.

    Raises: WeightsError: for a name without folder and extension that is not in the table.
    """
    text = str(text)
    if download.is_url(text) or os.path.exists(text) or not _NAME.fullmatch(text):
        return None
    if text in published():
        return published()[text]
    if re.search(r"\.[A-Za-z]\w*$", text):  # a file name
        return None
    raise WeightsError(
        f"weights '{text}': there is no such file, and no published weights have this name."
        f"{suggest(text, published())} 'ppliteseg weights list' shows all."
    )


def export_of(text: str | os.PathLike[str]) -> str | None:
    """The folder of the export that goes with the shipped weights of this name; None if `text` is no published name,
    or something of this name exists.

    Raises: WeightsError: for weights that come without an export.
    """
    text = os.fspath(text)
    row = None if os.path.exists(text) else published().get(text)
    if row is None:
        return None
    if not row.shipped:
        raise WeightsError(
            f"'{text}' are published weights, not an export: run 'ppliteseg export --model_path {text} --save_dir DIR' "
            "and give DIR."
        )
    return os.path.join(SHIPPED, row.name, f"{row.name}-int8")


def path_of(row: Published) -> str:
    """The file of a row, downloaded unless it is there, and verified.

    Raises: DownloadError: if it cannot be had; the text says from where and to where. WeightsError: if it is not the
        file that it was.
    """
    if not os.path.isfile(row.path):
        _get(row)
    _verify(row)
    return row.path


def is_here(row: Published) -> bool:
    """Whether a row's file is there and verified, so that it can be used without a connection."""
    try:
        return os.path.isfile(row.path) and bool(path_of(row))
    except (PPLiteSegError, OSError):
        return False


def config_of(model_path: str | None) -> str | None:
    """The shipped configuration that belongs to published weights; None where `model_path` names none."""
    row = find(model_path) if model_path else None
    return row.config if row else None


def _get(row: Published) -> None:
    if row.shipped:
        raise WeightsError(f"weights '{row.name}': {row.path} is missing from this installation; install it anew.")
    if row.address is None:
        raise DownloadError(f"weights '{row.name}': get {row.file} by hand from {row.page}, and save it as {row.path}.")
    try:
        download.fetch(row.address, folder(), os.path.basename(row.path))
    except DownloadError as error:
        raise DownloadError(f"weights '{row.name}': {error} Saved as {row.path}, it is found by its name.") from error


def _verify(row: Published) -> None:
    """Compare a file with the table, or with what was recorded at its first use, or record it."""
    records = os.path.join(folder(), CHECKSUMS)
    known = read_json(records) or {}
    recorded = known.get(row.name) if isinstance(known.get(row.name), dict) else None
    expected = row.sha256 or (recorded or {}).get("sha256")
    found = sha256_of(row.path)
    if expected is None:
        record: dict[str, Any] = {
            "sha256": found,
            "size": os.path.getsize(row.path),
            "address": row.address or row.page,
            "date": datetime.date.today().isoformat(),
        }
        write_json(records, {**known, row.name: record})
    elif found != expected:
        since = "published" if row.sha256 else f"recorded on {(recorded or {}).get('date')}"
        way = (
            "Install this package anew."
            if row.shipped
            else "Delete it to have it downloaded anew."
            if row.sha256
            else f"Delete it to have it downloaded anew; if its publisher has replaced it, delete '{row.name}' in "
            f"{records}, too."
        )
        raise WeightsError(
            f"weights '{row.name}': {row.path} has the SHA-256 {found}, but {expected} was {since}: it is damaged, or "
            f"another file. {way}"
        )

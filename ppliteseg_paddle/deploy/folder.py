"""The exported folder on disk: replaced as a whole or left alone, its files recorded with sizes and hashes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from ppliteseg_paddle import signals
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.files import DISK_FAULTS, abandoned, claim, flush, probe_disk, release, sha256_of
from ppliteseg_paddle.reading.plain_yaml import PlainYamlError, read_plain_yaml

METADATA_FILE = "deploy.yaml"
ENGINES_FOLDER = "engines"  # in the user's cache; of exports by earlier versions, in them
ENGINE_FILE = "model.plan"  # of TensorRT, in a model repository of NVIDIA Triton; built by the user
_EARLIER = ".earlier"  # of the folder that an export replaces, while it does
_ROOM = 1 << 20  # bytes that are free where a disk is not full
_HEADER = (
    "# An exported segmentation model. ppliteseg_paddle.Predictor(this folder) runs it;\n"
    "# PaddleSeg's deployment scripts read the section `Deploy`. Do not edit: sizes and hashes are checked.\n"
)


@contextlib.contextmanager
def writing(folder: str, overwrite: bool = False) -> Iterator[str]:
    """Give a temporary folder beside `folder`, which takes its place if the block ends well, and is removed if not.

    An earlier export at `folder` is replaced; anything else there is refused before any work is done.

    Args: overwrite: replace an export, too, whose files were changed, or that PaddleSeg wrote.
    Raises: ArtifactError: if `folder` holds something that is no export, or cannot be written. Interrupted.
    """
    target = os.path.realpath(folder)
    parent = os.path.dirname(target)
    _clean_up(target)
    _check_replaceable(target, folder, overwrite)
    temporary, claimed = "", None
    try:
        with signals.held():  # a signal that comes now finds a folder that is known, and removed below
            temporary, claimed = _temporary(target, parent)
        yield temporary
        for path, folders, names in os.walk(temporary):
            for name in folders + names:
                flush(os.path.join(path, name))
        with signals.held():
            _move(temporary, target)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise ArtifactError(f"cannot write {folder}: {error.strerror}.") from error
    except KeyboardInterrupt as interrupt:
        said = f"nothing was written to {folder}; run the command again."
        raise signals.Interrupted.of(interrupt).saying(said) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already if it has been moved
        release(claimed)


def _temporary(target: str, parent: str) -> tuple[str, int | None]:
    """A new folder beside `target`, and what `claim` gives for it."""
    try:
        os.makedirs(parent, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=_prefix(target), dir=parent)
        claimed = claim(temporary)
        os.chmod(temporary, 0o755)  # as folders are; mkdtemp's are private  # noqa: S103  # nosec B103
    except OSError as error:
        raise ArtifactError(f"cannot write in {parent}: {error.strerror or error}.") from None
    return temporary, claimed


def _prefix(target: str) -> str:
    return f".{os.path.basename(target)}.exporting-"


def _clean_up(target: str) -> None:
    """Remove what an export that was killed has left beside `target`, and put back what it had moved away."""
    random_part = "[a-z0-9_]{8}"
    with contextlib.suppress(OSError):
        parent, prefix = os.path.dirname(target), re.escape(_prefix(target))
        for path in abandoned(parent, prefix + random_part):
            shutil.rmtree(path, ignore_errors=True)
        for path in abandoned(parent, prefix + random_part + re.escape(_EARLIER)):
            if os.path.lexists(path[: -len(_EARLIER)]):
                continue  # being exchanged
            if os.path.lexists(target):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.rename(path, target)


@contextlib.contextmanager
def naming_the_disk(temporary: str, folder: str, needed: int) -> Iterator[None]:
    """In this block third-party code writes files into `temporary`, which is to become `folder`. If it fails because
    the disk is full or broken, or does not even notice, that is what is said.

    Args: needed: bytes that the block writes at most.
    Raises: ArtifactError; what the block raises, if the disk is not at fault.
    """
    try:
        yield
        for path, _, names in os.walk(temporary):
            for name in names:
                flush(os.path.join(path, name))
        probe_disk(temporary, _ROOM)
    except Exception as error:
        fault = error if isinstance(error, OSError) and error.errno in DISK_FAULTS else None
        try:
            probe_disk(temporary, needed)
        except OSError as found:
            fault = fault or found
        if fault is None:
            raise
        raise ArtifactError(f"cannot write {folder}: {fault.strerror}.") from error


def _move(temporary: str, target: str) -> None:
    if not os.path.isdir(target):
        os.rename(temporary, target)
        return
    earlier = temporary + _EARLIER
    os.rename(target, earlier)
    try:
        os.rename(temporary, target)
    except OSError:
        os.rename(earlier, target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _check_replaceable(target: str, folder: str, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not os.path.isdir(target):
        raise ArtifactError(f"{folder} is a file; give a folder to export to.")
    names = set(os.listdir(target))
    if not names:
        return
    another = f"give another folder, such as {os.path.join(folder, 'export')}"
    if METADATA_FILE not in names:
        raise ArtifactError(f"{folder} is not empty and no export, so it is not replaced; {another}.")
    try:
        values = read_metadata(target)
    except ArtifactError:
        values = {}
    graphs = {name for name in names if name.startswith(("model.", "inference."))}
    if "format_version" not in values and not (overwrite and graphs):
        unless = ", or add --overwrite" if graphs else ""
        raise ArtifactError(
            f"{folder} holds a {METADATA_FILE} that ppliteseg did not write, or that is damaged, so it is not "
            f"replaced; {another}{unless}."
        )
    records = values.get("files")
    known = set(records if isinstance(records, dict) else graphs)
    names = _files_below(target)
    foreign = sorted(names - known - {METADATA_FILE})
    if foreign:
        raise ArtifactError(
            f"{folder} holds an export and also {foreign[0]}, which exporting would delete; move it or give another "
            "folder."
        )
    changed = sorted(name for name in known & names if not overwrite and _was_changed(target, name, values))
    if changed:
        raise ArtifactError(
            f"{os.path.join(folder, changed[0])} was changed after the export, so it is not replaced; {another}, or "
            "add --overwrite."
        )


def _files_below(target: str) -> set[str]:
    """The files and empty folders of an export, with "/" between folders, but for engines: those fit no other graph."""
    found = set()
    for path, folders, names in os.walk(target):
        below = "" if path == target else os.path.relpath(path, target).replace(os.sep, "/") + "/"
        if not below and ENGINES_FOLDER in folders:
            folders.remove(ENGINES_FOLDER)
        if below and not folders and not names:
            found.add(below)
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        found |= {below + name for name in [*names, *links] if name != ENGINE_FILE or not below}
    return found


def _was_changed(folder: str, name: str, values: Mapping[str, Any]) -> bool:
    try:
        check_files(folder, [name], values["files"], verify=True)
    except ArtifactError:
        return True
    return False


def file_record(path: str) -> dict[str, Any]:
    """{"sha256", "bytes"} of a file."""
    return {"sha256": sha256_of(path), "bytes": os.path.getsize(path)}


class _Dumper(yaml.SafeDumper):
    """Short lists of plain values on one line; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        plain = all(not isinstance(item, (list, dict)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)


def write_metadata(folder: str, values: Mapping[str, Any]) -> None:
    """Write `deploy.yaml`, the last file of an export."""
    with open(os.path.join(folder, METADATA_FILE), "w", encoding="utf-8") as file:
        file.write(_HEADER)
        yaml.dump(dict(values), file, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_metadata(folder: str, name: str = METADATA_FILE) -> dict[str, Any]:
    """What the folder's `deploy.yaml` holds, unchecked.

    Args: name: of the file, if it has another.
    Raises: ArtifactError: if `folder` is no folder, or the file is missing or no YAML mapping.
    """
    if not os.path.isdir(folder):
        kind = "is a file" if os.path.exists(folder) else "does not exist"
        raise ArtifactError(f"model_dir {folder} {kind}; give the folder that 'ppliteseg export' wrote.")
    path = os.path.join(folder, name)
    try:
        values = read_plain_yaml(path)
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} holds no {name}, so it is no export; give the folder that 'ppliteseg export' wrote."
        ) from None
    except PlainYamlError as error:
        raise ArtifactError(f"{path}{error.place}: no valid YAML: {error}; export the model again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {' '.join(str(error).split())}; export the model again.") from None
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} holds no 'key: value' lines; export the model again.")
    return values


def check_files(folder: str, names: Iterable[str], records: Mapping[str, Any], verify: bool) -> None:
    """See that files are there, as `deploy.yaml` records them.

    Args: records: name -> as `file_record` gives it; verify: whether hashes are compared, too.
    Raises: ArtifactError: naming the file that is missing or different.
    """
    path = os.path.join(folder, METADATA_FILE)
    for name in dict.fromkeys(names):
        record, file_path = records.get(name), os.path.join(folder, name)
        if not isinstance(record, dict) or not isinstance(record.get("bytes"), int) or "sha256" not in record:
            raise ArtifactError(
                f"{path}: files.{name} must hold 'sha256' and 'bytes', but is {record!r}; export the model again."
            )
        if not os.path.isfile(file_path):
            raise ArtifactError(f"{file_path} is missing; copy the whole exported folder.")
        if os.path.getsize(file_path) != record["bytes"]:
            raise ArtifactError(
                f"{file_path} has {os.path.getsize(file_path):d} bytes, but {METADATA_FILE} says {record['bytes']:d}; "
                "copy the exported folder again, or export again."
            )
        if verify and file_record(file_path)["sha256"] != record["sha256"]:
            raise ArtifactError(
                f"{file_path} was changed after the export: its hash is not the one in {METADATA_FILE}; copy the "
                "exported folder again, or export again."
            )

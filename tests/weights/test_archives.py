import io
import os
import stat
import tarfile
import zipfile

import pytest

from ppliteseg_paddle.errors import DownloadError, WeightsError
from ppliteseg_paddle.weights import archives
from ppliteseg_paddle.weights.read import read_weight_file


def write_tar(path, members, mode="w:gz"):
    """members: name -> bytes, or the type of a tar member that is no file."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = (
                    {
                        "symlink": tarfile.SYMTYPE,
                        "hard link": tarfile.LNKTYPE,
                        "device": tarfile.CHRTYPE,
                        "folder": tarfile.DIRTYPE,
                    }[content],
                    "good.txt",
                )
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return str(path)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if content == "symlink":
                info.external_attr, content = (stat.S_IFLNK | 0o777) << 16, b"good.txt"
            archive.writestr(info, content)
    return str(path)


@pytest.mark.parametrize(
    "write", [write_tar, lambda path, members: write_tar(path, members, "w"), write_zip], ids=["tar.gz", "tar", "zip"]
)
def test_files_land_below_the_folder(write, tmp_path):
    path = write(tmp_path / "archive", {"good.txt": b"1", "./deep/er/b.bin": b"22", "deep/c..d": b"3"})
    assert archives.is_archive(path)
    target = tmp_path / "out"
    assert archives.unpack(path, str(target)) == ["deep/c..d", "deep/er/b.bin", "good.txt"]
    assert (target / "deep" / "er" / "b.bin").read_bytes() == b"22"


BAD = {
    "../outside.txt": "leads out of the folder",
    "a/../../outside.txt": "leads out of the folder",
    "/outside.txt": "is an absolute path",
    "..\\outside.txt": "leads out of the folder",
    "C:/outside.txt": "is an absolute path",
}


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("name", list(BAD))
def test_a_member_that_would_land_elsewhere_is_refused_and_nothing_is_written(write, name, tmp_path):
    path = write(tmp_path / "archive", {"good.txt": b"1", name: b"bad"})
    target = tmp_path / "deep" / "out"
    with pytest.raises(DownloadError, match=f"was not unpacked: its member .* {BAD[name]}"):
        archives.unpack(path, str(target))
    assert not target.exists() and not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize(
    "write, kind, text",
    [
        (write_tar, "symlink", "is a link"),
        (write_tar, "hard link", "is a link"),
        (write_tar, "device", "is a device"),
        (write_zip, "symlink", "is a link"),
    ],
)
def test_links_and_devices_are_refused_and_nothing_is_written(write, kind, text, tmp_path):
    path = write(tmp_path / "archive", {"good.txt": b"1", "bad": kind})
    with pytest.raises(DownloadError, match=f"its member 'bad' {text}"):
        archives.unpack(path, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1000)
    path = write_tar(tmp_path / "archive", {"a": b"0" * 600, "b": b"0" * 600})
    with pytest.raises(DownloadError, match="would unpack to 1200 bytes, more than the 1000"):
        archives.unpack(path, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_told(tmp_path):
    whole = write_tar(tmp_path / "whole", {"a": os.urandom(5000)})
    damaged = tmp_path / "damaged"
    with open(whole, "rb") as file:
        damaged.write_bytes(file.read()[:3000])
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        archives.unpack(str(damaged), str(tmp_path / "out"))


def test_a_name_that_is_a_file_and_a_folder_is_told_and_nothing_is_written(tmp_path):
    for number, members in enumerate(
        [{"a": b"1", "a/b": b"2"}, {"a/b": b"2", "a": b"1"}, {"a": b"1", "./a/": "folder"}]
    ):
        path = write_tar(tmp_path / f"archive{number}", members)
        with pytest.raises(DownloadError, match="'a' is a file and a folder in it"):
            archives.unpack(path, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_zip_whose_offsets_are_damaged_is_told(tmp_path):
    path = tmp_path / "damaged.zip"
    write_zip(path, {"a": b"1"})
    content = bytearray(path.read_bytes())
    end = content.index(b"PK\x05\x06")
    content[end + 16 : end + 20] = (1000).to_bytes(4, "little")  # where the list of members is said to begin
    path.write_bytes(content)
    with pytest.raises(DownloadError, match="damaged.zip cannot be unpacked"):
        archives.unpack(str(path), str(tmp_path / "out"))


def test_a_compressed_tar_is_not_read_beyond_the_bytes_that_are_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = write_tar(tmp_path / "archive", {str(number): b"" for number in range(4)})
    with pytest.raises(DownloadError, match="more than the 3 members"):
        archives.unpack(path, str(tmp_path / "out"))


def test_a_compressed_archive_that_is_cut_off_is_told_in_one_line(tmp_path):
    whole = write_tar(tmp_path / "whole", {"a": os.urandom(5000)})
    for count in (3, 12, 40):
        path = tmp_path / f"cut{count}"
        with open(whole, "rb") as file:
            path.write_bytes(file.read()[:count])
        with pytest.raises((DownloadError, WeightsError)) as caught:
            read_weight_file(str(path))
        assert "\n" not in str(caught.value)

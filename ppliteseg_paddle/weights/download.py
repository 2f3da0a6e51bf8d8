"""Get files from http(s): with a progress bar, resumed after a break, verified, and kept in a cache.

The cache is `PPLITESEG_HOME`/downloads, or ~/.cache/ppliteseg/downloads. `PPLITESEG_MAX_DOWNLOAD` is how many bytes
one file may have. `PPLITESEG_MIRROR` has other beginnings of addresses, as in "https://host/a/=https://mirror/b/".
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from ppliteseg_paddle.errors import DownloadError
from ppliteseg_paddle.files import home_folder, sha256_of
from ppliteseg_paddle.progress import bar

ATTEMPTS = 4  # connections made for one file, as long as each brings something
TIMEOUT_SECONDS = 30
CHUNK = 1 << 18
MAX_BYTES = 4 << 30  # of one file, unless PPLITESEG_MAX_DOWNLOAD says otherwise
_HINT = "Check the connection, or get the file another way and give its path instead."


def is_url(text: object) -> bool:
    """Whether `text` is an address rather than a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", str(text), re.IGNORECASE) is not None


def masked(text: object) -> str:
    """`text`, with the user and password of each address in it masked."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "***@", str(text))


def cache_folder() -> str:
    """Where downloads by address are kept."""
    return os.path.join(home_folder(), "downloads")


def fetch(url: str, folder: str | None = None, file: str | None = None) -> str:
    """Path of the file at `url`, downloaded unless it is in the cache.

    After a break, the next attempt resumes from what has come, if the server says that its file is still the
    same one. Processes that want one file at a time wait for the first of them.

    Args:
        url: http or https; "#sha256=..." at its end has the content checked against that hash.
        folder: cache folder. Default: `cache_folder()`.
        file: its name there. Default: by the address.
    Raises: DownloadError: if it cannot be had, comes short, or has another hash.
    """
    address, sha256 = _split(url)
    folder = folder or cache_folder()
    name = os.path.basename(urllib.parse.urlparse(address).path) or "download"
    path = os.path.join(folder, file or f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}")
    try:
        os.makedirs(folder, exist_ok=True)
        with _locked(path + ".lock"):
            if not os.path.isfile(path):
                _download(_mirrored(address), path)
    except OSError as error:
        raise DownloadError(
            f"{masked(address)} cannot be kept in {folder}: {error.strerror or error}. Set PPLITESEG_HOME to a folder "
            "that can be written."
        ) from error
    if sha256 is not None:
        _check_hash(path, sha256, address)
    return path


def _split(url: str) -> tuple[str, str | None]:
    address, _, fragment = url.partition("#")
    if not _is_web(address):
        raise DownloadError(f"{masked(address)}: only http and https addresses can be downloaded.")
    if not fragment:
        return address, None
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if match is None:
        raise DownloadError(f"{masked(url)}: after '#' write sha256= and 64 hexadecimal digits, or nothing.")
    return address, match.group(1).lower()


def _mirrored(address: str) -> str:
    """The address at a mirror, where `PPLITESEG_MIRROR` has one for its beginning."""
    for pair in os.environ.get("PPLITESEG_MIRROR", "").split():
        original, equals, mirror = pair.partition("=")
        if not (equals and _is_web(original) and _is_web(mirror)):
            raise DownloadError(
                f"PPLITESEG_MIRROR has '{masked(pair)}'; write pairs with a blank between them, such as "
                "https://host/a/=https://mirror/b/."
            )
        if address.startswith(original):
            return mirror + address[len(original) :]
    return address


def _is_web(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _check_hash(path: str, expected: str, address: str) -> None:
    found = sha256_of(path)
    if found != expected:
        os.remove(path)
        raise DownloadError(
            f"{masked(address)} has the SHA-256 {found}, but {expected} was asked for; it was deleted. "
            "It is damaged, or another file."
        )


# --------------------------------------------------------------------------------------------
# Transfer
# --------------------------------------------------------------------------------------------
def _download(address: str, path: str) -> None:
    part, tag = path + ".part", path + ".part.tag"
    for _attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            expected = _transfer(address, part, tag)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the server has less than we hold: it is another file
                _remove(part, tag)
                continue
            raise DownloadError(
                f"{masked(address)}: the server answers {error.code:d} {error.reason}. {_HINT}"
            ) from error
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            if isinstance(error, OSError) and error.filename is not None:
                raise  # our own disk, not the network
            if _size(part) > before:
                continue
            reason = _without_password(str(getattr(error, "reason", None) or error) or type(error).__name__, address)
            raise DownloadError(f"{masked(address)} cannot be downloaded: {reason}. {_HINT}") from error
        if expected is None or _size(part) == expected:
            os.replace(part, path)
            _remove(tag)
            return
    raise DownloadError(
        f"{masked(address)} came incomplete {ATTEMPTS:d} times: {_size(part):d} bytes so far. Run the same command "
        "again to resume."
    )


def _without_password(reason: str, address: str) -> str:
    """Libraries quote the part of an address that they do not understand, such as "password@host"."""
    secret = urllib.parse.urlparse(address).netloc.rpartition("@")[0]
    for part in (secret, secret.partition(":")[2]):
        reason = reason.replace(part, "***") if part else reason
    return masked(reason)


def _max_bytes() -> int:
    text = os.environ.get("PPLITESEG_MAX_DOWNLOAD")
    if not text:
        return MAX_BYTES
    if not re.fullmatch("[0-9]{1,18}", text):
        raise DownloadError(f"PPLITESEG_MAX_DOWNLOAD is '{text}'; write a number of bytes, such as {MAX_BYTES:d}.")
    return int(text)


def _check_bytes(count: int, limit: int, address: str, verb: str, *files: str) -> None:
    if count > limit:
        _remove(*files)
        raise DownloadError(
            f"{masked(address)} {verb} more than {limit:d} bytes, the largest download that is allowed; it was not "
            "kept. If it is the right file, set PPLITESEG_MAX_DOWNLOAD to a larger number of bytes."
        )


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https; urllib's own follows them to ftp, too."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = urllib.parse.urljoin(req.full_url, headers.get("Location") or "")
        if not _is_web(target):
            raise DownloadError(
                f"{masked(req.full_url)} redirects to {masked(target)}: only http and https addresses can be "
                "downloaded."
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _transfer(address: str, part: str, tag_file: str) -> int | None:
    """One connection, appending to `part`; returns the size that the server promises for the whole, if any."""
    headers = {"User-Agent": "ppliteseg", "Accept-Encoding": "identity"}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - `_split` has seen that it is http(s)
    start, tag = _size(part), _read(tag_file)
    if start and tag:
        request.add_header("Range", f"bytes={start:d}-")
        request.add_header("If-Range", tag)  # the rest only if the file has not changed, else all of it
    limit = _max_bytes()
    opener = urllib.request.build_opener(_WebRedirects)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206:
            start = 0
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start:d}-"):
            raise http.client.HTTPException("the server sent another part of the file than was asked for")
        length = response.headers.get("Content-Length")
        # Of a response in chunks, http.client does not hold the body to its Content-Length.
        known = length and length.isascii() and length.isdigit() and not response.chunked
        total = start + int(length) if known else None
        _check_bytes(total or 0, limit, address, "has", part, tag_file)
        with open(tag_file, "w", encoding="utf-8") as file:
            # A weak tag does not promise equal bytes.
            strong = response.headers.get("ETag") or ""
            file.write(strong if strong.startswith('"') else response.headers.get("Last-Modified") or "")
        shown = bar(total=total, initial=start, unit="B", unit_scale=True, desc=os.path.basename(masked(address)))
        with shown, open(part, "ab" if start else "wb") as file:
            came = start
            while True:
                # Each chunk goes to disk at once: after a break, all that came is there to resume from.
                chunk = response.read1(CHUNK)
                if not chunk:
                    return total
                came += len(chunk)
                _check_bytes(came, limit, address, "sends", part, tag_file)
                file.write(chunk)
                shown.update(len(chunk))


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _remove(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """One process at a time, where the system can lock files (Windows cannot in this way)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

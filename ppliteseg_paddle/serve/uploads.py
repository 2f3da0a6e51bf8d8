"""The image of a request: a form's file or the body itself, bounded in size and in time, as a file for the readers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive

from ppliteseg_paddle.errors import DataError, one_line
from ppliteseg_paddle.serve.options import RequestError

PATIENCE_SECONDS = 30.0  # without a byte of the upload
_FORM = "multipart/form-data"
# What a body may be called: an image, or what clients send that do not say (curl calls it a form).
_BODIES = re.compile(r"(image/.*|application/octet-stream|application/x-www-form-urlencoded|)", re.DOTALL)
_FORM_BYTES = 1 << 16  # what a form may have around its file
_FORM_FIELDS = 16
_LONGEST_NAME = 100
_OF_LISTS = re.compile(r"[.:] [^.:]*, or take it off the list\.$")  # advice that no client can follow


class Upload(NamedTuple):
    """`path` of the file, and the `name` that the client gave it."""

    path: str
    name: str


@contextlib.asynccontextmanager
async def received(request: Request, folder: str, max_bytes: int) -> AsyncIterator[Upload]:
    """The upload as a file in `folder` for the time of the block.

    Raises: RequestError: 415 for what can be no image, 413 for more than `max_bytes`, 408 if the client falls silent,
        400 for a form that has no file.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM and not _BODIES.fullmatch(kind):
        raise RequestError(
            415,
            f"the content type '{kind[:_LONGEST_NAME]}' is no image: send an image file as the body (image/*) or as a "
            "form's file (multipart/form-data).",
        )
    form_bytes = _FORM_BYTES if kind == _FORM else 0
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + form_bytes:
        raise _too_large(max_bytes)
    bounded = Request(request.scope, _bounded(request.receive, max_bytes, form_bytes))
    handle, path = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            name = await (_store_form if kind == _FORM else _store_body)(bounded, target)
            if target.tell() > max_bytes:
                raise _too_large(max_bytes)
        yield Upload(path, _tidy(name))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


async def _store_body(request: Request, target: Any) -> str:
    async for chunk in request.stream():
        target.write(chunk)
    if not target.tell():
        raise RequestError(400, "the request has no body: send an image file, as in curl --data-binary @photo.jpg URL")
    return ""


async def _store_form(request: Request, target: Any) -> str:
    async with request.form(max_files=1, max_fields=_FORM_FIELDS) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise RequestError(400, "the form has no file: send an image, as in curl -F file=@photo.jpg URL")
        await run_in_threadpool(shutil.copyfileobj, files[0].file, target)
        return files[0].filename or ""


def _bounded(receive: Receive, max_bytes: int, form_bytes: int) -> Receive:
    """`receive` that ends a body that is too long, or that does not come."""
    count = 0

    async def bounded() -> Message:
        nonlocal count
        try:
            message = await asyncio.wait_for(receive(), PATIENCE_SECONDS)
        except asyncio.TimeoutError:
            raise RequestError(408, f"the upload stopped: nothing came for {PATIENCE_SECONDS:g} s.") from None
        count += len(message.get("body", b""))
        if count > max_bytes + form_bytes:
            raise _too_large(max_bytes)
        return message

    return bounded


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413,
        f"the upload is larger than {max_bytes / 2**20:g} MB: make the image smaller, or start the server with a "
        "larger --max_upload.",
    )


def _tidy(name: str) -> str:
    """The client's name for its file, without folders, for messages and results."""
    return one_line(re.split(r"[/\\]", name)[-1])[-_LONGEST_NAME:] or "upload"


def told(error: DataError, upload: Upload) -> DataError:
    """An error of the readers in the words of the client, who knows no path and no list."""
    text = str(error).replace(upload.path, upload.name)
    return type(error)(_OF_LISTS.sub(".", text))

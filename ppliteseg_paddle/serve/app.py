"""The addresses: `/`, `/predict`, `/health`, `/metrics`, and what is refused before any of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppliteseg_paddle import __version__
from ppliteseg_paddle.deploy.stream import Prediction
from ppliteseg_paddle.errors import DataError, one_line
from ppliteseg_paddle.reading.files import UnreadableError
from ppliteseg_paddle.reading.limits import TooLargeError
from ppliteseg_paddle.serve import metrics
from ppliteseg_paddle.serve.answers import Wanted, class_rows, in_milliseconds
from ppliteseg_paddle.serve.options import RequestError
from ppliteseg_paddle.serve.page import load_page
from ppliteseg_paddle.serve.service import Service, Times
from ppliteseg_paddle.serve.uploads import received

log = logging.getLogger("ppliteseg_paddle")

_GZIP = 16 + zlib.MAX_WBITS  # zlib's number for the format
_GZIP_LEVEL = 1  # a mask of 2 MB in 5 ms
_PACKED = ("application/octet-stream", "application/json")  # the answers that it makes smaller
_WORTH_PACKING = 1 << 12  # bytes
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


def create_app(service: Service, max_upload: int, hosts: Iterable[str] | None) -> Starlette:
    """The application that a server of ASGI runs.

    Args: max_upload: megabytes; hosts: names by which it may be called, None for any.
    """
    page = load_page()

    async def show_page(request: Request) -> Response:
        return Response(page.content, media_type="text/html", headers={"content-security-policy": page.policy})

    async def health(request: Request) -> Response:
        return _json(describe(service, max_upload))

    async def show_metrics(request: Request) -> Response:
        return Response(service.metrics.text(), headers={"content-type": metrics.MEDIA_TYPE})

    async def predict(request: Request) -> Response:
        wanted = Wanted.of(request.query_params, service.predictor.label_set)
        packed = "gzip" in request.headers.get("accept-encoding", "") and wanted.form.media_type in _PACKED
        with service.place():
            async with received(request, service.folder, max_upload << 20) as upload:

                def encode(found: Prediction, times: Times) -> tuple[bytes, bool]:
                    content = wanted.form.encode(found, times, upload.name, wanted.style)
                    if not packed or len(content) < _WORTH_PACKING:
                        return content, False
                    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
                    return packer.compress(content) + packer.flush(), True

                (content, is_packed), times = await service.segment(upload, encode)
        headers = {"server-timing": _timing(times), **({"content-encoding": "gzip"} if is_packed else {})}
        return Response(content, media_type=wanted.form.media_type, headers=headers)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/health", health),
            Route("/metrics", show_metrics),
            Route("/predict", predict, methods=["POST"]),
        ],
        middleware=[Middleware(_Guard, service=service, hosts=hosts)],
        exception_handlers={
            RequestError: _refused,
            DataError: _refused,
            HTTPException: _refused,
            ClientDisconnect: _gone,
            Exception: _defect,
        },
        lifespan=lifespan,
    )


def describe(service: Service, max_upload: int) -> dict[str, Any]:
    """What is served, and by what."""
    predictor = service.predictor
    backend = predictor.backend.describe()
    return {
        "status": "ok",
        "version": __version__,
        "model": {
            "name": service.name,
            "type": predictor.artifact.model.get("type"),
            "multilabel": predictor.artifact.multilabel,
        },
        "backend": backend,
        "device": backend["device"],
        "streams": predictor.streams,
        "batch_size": service.batch_size,
        "queue": service.queue,
        "max_upload": max_upload << 20,
        "uptime_seconds": round(time.time() - service.started, 1),
        "classes": class_rows(predictor.label_set),
    }


class _Guard:
    """Counts answers, adds the headers that all have, and refuses what a foreign page could make a browser send.

    A page elsewhere may point a name of its own at this machine (DNS rebinding) or send a form here: where only
    loopback listens, the `Host` must be one of its names, and requests that browsers call cross-site are refused.
    """

    def __init__(self, app: ASGIApp, service: Service, hosts: Iterable[str] | None):
        self._app, self._metrics = app, service.metrics
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._metrics.answered(_known(scope["path"]), message["status"])
                given = {name for name, _ in message["headers"]}
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *(row for row in added if row[0] not in given)]
            await send(message)

        request = Request(scope)
        host = request.headers.get("host", "")
        app: ASGIApp = self._app
        if self._hosts is not None and _name_of(host) not in self._hosts:
            app = _error(421, f"this server is not called '{host}': use {' or '.join(sorted(self._hosts))}.")
        elif scope["method"] == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
            app = _error(403, "requests from other sites' pages are refused.")
        try:
            await app(scope, receive, answer)
        except asyncio.CancelledError:  # the server ends, and nothing is above this that could be canceled
            if not begun:
                await _error(503, "the server has ended before the request was complete.")(scope, receive, answer)


def _name_of(host: str) -> str:
    """A `Host` without its port."""
    name, bracket, _ = host.partition("]")
    return (name + bracket if bracket else host.partition(":")[0]).lower()


def _known(path: str) -> str:
    """The path as the metrics call it: those that clients invent are one."""
    return path if path in ("/", "/health", "/metrics", "/predict") else "other"


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        return _error(error.status, str(error), error.headers)
    if isinstance(error, HTTPException):
        return _error(error.status_code, _of_routes(request, error), dict(error.headers or {}))
    status = 413 if isinstance(error, TooLargeError) else 400 if isinstance(error, UnreadableError) else 422
    return _error(status, str(error))


def _of_routes(request: Request, error: HTTPException) -> str:
    path = request.url.path
    if error.status_code == 404:
        return f"there is nothing at {path}: POST an image to /predict, or GET /, /health or /metrics."
    if error.status_code == 405:
        return f"{request.method} is not possible at {path}: use {(error.headers or {}).get('Allow', '')}."
    return error.detail


async def _gone(request: Request, error: Exception) -> Response:
    """The client has closed the connection: nobody reads it, the metrics count it."""
    return _error(499, "the client closed the connection")


async def _defect(request: Request, error: Exception) -> Response:
    """The traceback goes to the server's log: it is raised again after the answer."""
    return _error(500, "the server failed at this request; its log says why.")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": one_line(message)}, status, headers)


def _json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(values, ensure_ascii=False).encode()
    return Response(content, status, headers, media_type="application/json")


def _timing(times: Times) -> str:
    """The header `Server-Timing`, which browsers' tools show."""
    return ", ".join(f"{name};dur={value:g}" for name, value in in_milliseconds(times).items())

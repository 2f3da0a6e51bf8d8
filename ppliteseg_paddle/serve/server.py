"""Opens the model, listens, and ends without losing a request."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import python_multipart  # noqa: F401 - Starlette would miss it at the first form only
import uvicorn
from starlette.types import ASGIApp

from ppliteseg_paddle import signals
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.serve.app import create_app
from ppliteseg_paddle.serve.options import ServeOptions
from ppliteseg_paddle.serve.service import Service

log = logging.getLogger("ppliteseg_paddle")

_ENDING_SECONDS = 30  # for requests that were begun
_IDLE_SECONDS = 15  # that a connection may wait for its next request
_LARGEST_PORT = 65535
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Server(uvicorn.Server):
    """Leaves signals to `signals`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_no_cancel(record: logging.LogRecord) -> bool:
    """A filter of Uvicorn's log: what a second Ctrl-C cancels is no defect, and needs no traceback."""
    return not record.getMessage().rstrip().endswith("CancelledError")


def serve(options: ServeOptions) -> dict[str, Any]:
    """Serve a model until a signal comes: what was begun is answered, and new connections are refused. A second Ctrl-C
    ends at once.

    Returns: plain values for the report.
    Raises: ConfigError: if it cannot listen there. What `Predictor` raises.
    """
    name = os.path.basename(os.path.abspath(options.model_dir))  # of published weights it is theirs
    with listening(options.host, options.port) as listener:
        predictor = Predictor(
            *(options.model_dir, options.backend, options.device, options.num_threads),
            batch_size=options.batch_size or 1,
            streams=options.streams,
        )
        service = Service(predictor, name, options.batch_size, options.queue)
        host, port = listener.getsockname()[:2]
        loopback = ipaddress.ip_address(host).is_loopback
        app = create_app(service, options.max_upload, (*_LOOPBACK_NAMES, options.host) if loopback else None)
        server = server_for(app)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port:d}"
        _announce(service, address, loopback)
        with signals.telling(lambda: setattr(server, "should_exit", True)):
            server.run(sockets=[listener])
    return {
        "address": address,
        "model_dir": os.fspath(options.model_dir),
        "backend": predictor.backend.describe(),
        "requests": sum(service.metrics.requests.values()),
        "images": service.metrics.images,
    }


def server_for(app: ASGIApp) -> Server:
    """A server that leaves log and signals to this program."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancel)
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_ENDING_SECONDS,
        )
    )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Before the model is opened, which takes a while.

    Raises: ConfigError: if the address is unknown, not this machine's, or taken.
    """
    if port > _LARGEST_PORT:
        raise ConfigError(f"--port is {port:d}; give a number up to {_LARGEST_PORT:d}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise ConfigError(f"cannot listen on --host {host} --port {port:d}: {reason}; give another one.") from None
    with listener:
        yield listener


def _announce(service: Service, address: str, loopback: bool) -> None:
    if not loopback:
        log.warning(
            "anybody who reaches %s can use it: there is no authentication and no encryption. Put a proxy with both in "
            "front of it, or leave --host out.",
            address,
        )
    backend = service.predictor.backend.describe()
    print(f"{service.name} with {backend['name']} on {backend['device']}: {address} (Ctrl-C ends)", flush=True)

"""Serve an exported model: a page that segments images, videos and the camera, and an API.

  GET  /         the page
  POST /predict  an image as the body or as a form's file; ?format=json (areas and latency), png (the mask), rle,
                 overlay, npy
  GET  /health   the model and what runs it, as JSON
  GET  /metrics  requests, latency and batches, for Prometheus

Ctrl-C or SIGTERM ends it after the requests that were begun. Needs pip install '.[serve]'."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from ppliteseg_paddle import environment
from ppliteseg_paddle.cli.common import EXPORT_DEVICE_HELP, FLAGS, add_backend, add_flags, count, positive_int
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.serve.options import ServeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="DIR", help=f"{FLAGS['model_dir']['help']} (default: camvid-t)")
    add_flags(parser, "model_dir", model_dir={"help": "the same as a flag"})
    parser.add_argument(
        "--host",
        default=ServeOptions.host,
        metavar="ADDRESS",
        help="where it listens; 0.0.0.0 is all networks, and there is no authentication (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=count, default=ServeOptions.port, metavar="N", help="0 takes a free one (default: %(default)s)"
    )
    add_backend(parser, default=ServeOptions.backend)
    add_flags(parser, "num_threads", "streams", streams={"default": ServeOptions.streams})
    add_flags(
        parser,
        "batch_size",
        "device",
        batch_size={
            "help": "images of one size that go through the network together where several wait (default: 4, or what "
            "the graph is fixed to)"
        },
        device={"help": EXPORT_DEVICE_HELP},
    )
    parser.add_argument(
        "--max_upload",
        type=positive_int,
        default=ServeOptions.max_upload,
        metavar="MB",
        help="the largest image file (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=positive_int,
        default=ServeOptions.queue,
        metavar="N",
        help="requests that may wait or be at work at once; more get status 503 (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.model and args.model_dir:
        raise ConfigError("give one exported model, as in: ppliteseg serve DIR")
    if not (args.model or args.model_dir):
        from ppliteseg_paddle.weights.zoo import DEFAULT

        args.model = DEFAULT
        print(f"model: {DEFAULT}, as none is named")
    args.model_dir = args.model_dir or args.model
    from ppliteseg_paddle.serve.server import serve

    environment.keep_freed_memory()
    return serve(ServeOptions(**{field.name: getattr(args, field.name) for field in fields(ServeOptions)}))


def summary(result: dict[str, Any]) -> str:
    images, requests = result["images"], result["requests"]
    return f"{images:d} image{'s' if images != 1 else ''} of {requests:d} requests served on {result['address']}"

"""An image from its upload to its mask: helpers read and finish, the batcher's threads run the network."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, TypeVar

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.stream import Prediction, Stages, Task, helper_threads
from ppliteseg_paddle.reading.images import image_size
from ppliteseg_paddle.serve.batcher import Batcher, Done
from ppliteseg_paddle.serve.metrics import Metrics
from ppliteseg_paddle.serve.options import RequestError
from ppliteseg_paddle.serve.uploads import Upload, told

BATCH_SIZE = 4
_LARGE = 2**23  # pixels; images beyond are in memory one at a time, so that the limits see what is free
_RETRY_SECONDS = 1

Result = TypeVar("Result")


class Times(NamedTuple):
    """Seconds that an image spent: `decode` (reading and the network's input), `queue`, `network`, `finish` (the mask
    at the image's size); with how many it went through the network."""

    decode: float
    queue: float
    network: float
    finish: float
    batch: int

    @property
    def total(self) -> float:
        return self.decode + self.queue + self.network + self.finish


class Service:
    """A predictor for many requests at once. To be used within `running`.

    Args: name: what the model is called; batch_size, queue: as `ServeOptions` has them.
    Attributes: `name`, `batch_size`; `metrics`; `folder`, for uploads.
    """

    def __init__(self, predictor: Predictor, name: str = "", batch_size: int | None = None, queue: int = 32):
        self.predictor, self.queue = predictor, queue
        self.name = name or os.path.basename(os.path.abspath(predictor.artifact.folder))
        self.batch_size = batch_size or min(BATCH_SIZE, _images_at_once(predictor.artifact))
        self.metrics = Metrics(self.waiting, lambda: self._in_progress)
        self.started = time.time()
        self.folder = ""
        self._in_progress = 0
        self._stages = Stages(predictor)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Threads and a folder for uploads, until all that was begun is done."""
        helpers = helper_threads()
        self._batcher = Batcher(self._infer, self._stages.key, self._room, self.predictor.streams)
        self._helpers = ThreadPoolExecutor(helpers, "images")
        # So many images are in memory: one batch in the network and the next one ready.
        self._ahead = asyncio.Semaphore(helpers + 2 * self.predictor.streams * self.batch_size)
        self._large = asyncio.Semaphore(1)
        with tempfile.TemporaryDirectory(prefix="ppliteseg-serve-") as self.folder:
            try:
                yield self
            finally:
                self._batcher.close()
                self._helpers.shutdown()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests at work. Raises: RequestError: 503 if there is no free one."""
        if self._in_progress >= self.queue:
            raise RequestError(
                503,
                f"the queue is full ({self.queue:d} requests): try again in a moment.",
                {"Retry-After": f"{_RETRY_SECONDS:d}"},
            )
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    def waiting(self) -> int:
        """How many images wait for the network."""
        return len(self._batcher)

    async def segment(self, upload: Upload, encode: Callable[[Prediction, Times], Result]) -> tuple[Result, Times]:
        """The mask of an upload, as `encode` gives it, which runs in a helper's thread.

        Raises: DataError: as `Predictor.predict`.
        """
        begin = time.perf_counter()
        async with contextlib.AsyncExitStack() as stack:
            if await self._help(_pixels, upload.path) > _LARGE:
                await stack.enter_async_context(self._large)
            async with self._ahead:
                task, decode = await self._help(self._prepared, upload)
                done = await asyncio.wrap_future(self._batcher.submit(task))
            result, times = await self._help(self._finished, done, decode, encode)
        self.metrics.segmented(time.perf_counter() - begin)
        return result, times

    async def _help(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._helpers, functools.partial(function, *arguments))

    def _prepared(self, upload: Upload) -> tuple[Task, float]:
        begin = time.perf_counter()
        task = self._stages.prepare((0, upload.path))
        if task.error is not None:
            raise told(task.error, upload)
        return task, time.perf_counter() - begin

    def _infer(self, tasks: list[Task]) -> list[Task]:
        self.metrics.ran(len(tasks))
        return self._stages.infer(tasks)

    def _room(self, task: Task) -> int:
        """How many images of this size may go together."""
        pixels: int = task.batch.size // self.predictor.artifact.image_form.channels
        return max(1, min(self.batch_size, self.predictor.max_pixels // pixels))

    def _finished(
        self, done: Done, decode: float, encode: Callable[[Prediction, Times], Result]
    ) -> tuple[Result, Times]:
        begin = time.perf_counter()
        _, found = self._stages.finish(done.result)
        if found.error is not None:
            raise found.error
        times = Times(decode, done.waited, done.took, time.perf_counter() - begin, done.images)
        return encode(found, times), times


def _pixels(path: str) -> int:
    size = image_size(path)
    return size[0] * size[1] if size else 0


def _images_at_once(artifact: Artifact) -> int:
    """How many images the graph takes together."""
    fixed = artifact.input.size_of("N")
    largest = artifact.dynamic_shape.max[0] if artifact.dynamic_shape else BATCH_SIZE
    return fixed if fixed > 0 else largest

"""What waits goes through the network together, in order, and the queue is bounded."""

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from exported import photograph, small_folder
from served import serving, wait_until

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.serve.batcher import Batcher


class Gate:
    """Lets calls through one by one; `held` says what is in front of it, `passed` what went through."""

    def __init__(self):
        self.held, self.passed = [], []
        self._open = threading.Semaphore(0)

    def run(self, tasks):
        self.held.append(tasks)
        assert self._open.acquire(timeout=60)
        self.passed.append(tasks)
        return [task * 10 for task in tasks]

    def let(self, count=1):
        for _ in range(count):
            self._open.release()


@pytest.fixture
def gate():
    return Gate()


def batcher(gate, key=lambda task: "one", room=3):
    return Batcher(gate.run, key, lambda task: room)


def test_the_first_goes_at_once_and_what_waits_meanwhile_goes_together(gate):
    batches = batcher(gate)
    futures = [batches.submit(0)]
    wait_until(lambda: gate.held == [[0]])
    futures += [batches.submit(task) for task in range(1, 6)]
    assert len(batches) == 5
    gate.let(3)
    results = [future.result(60) for future in futures]
    assert gate.passed == [[0], [1, 2, 3], [4, 5]]
    assert [done.result for done in results] == [0, 10, 20, 30, 40, 50]
    assert [done.images for done in results] == [1, 3, 3, 3, 2, 2]
    batches.close()


def test_only_one_key_goes_together_and_who_waits_longest_is_next(gate):
    batches = batcher(gate, key=lambda task: None if task >= 100 else task % 2)
    batches.submit(0)
    wait_until(lambda: gate.held)
    futures = [batches.submit(task) for task in (1, 2, 100, 101, 3, 4, 5, 7)]
    gate.let(6)
    for future in futures:
        future.result(60)
    assert gate.passed == [[0], [1, 3, 5], [2, 4], [100], [101], [7]]
    batches.close()


def test_a_canceled_task_gives_up_its_place(gate):
    batches = batcher(gate)
    batches.submit(0)
    wait_until(lambda: gate.held)
    one, two = batches.submit(1), batches.submit(2)
    assert one.cancel()
    gate.let(2)
    assert two.result(60).images == 1 and gate.passed == [[0], [2]]
    batches.close()


def test_an_error_belongs_to_its_batch_and_work_continues():
    def run(tasks):
        if "bad" in tasks:
            raise ValueError("bad")
        return tasks

    batches = Batcher(run, lambda task: None, lambda task: 1)
    bad, good = batches.submit("bad"), batches.submit("good")
    with pytest.raises(ValueError, match="bad"):
        bad.result(60)
    assert good.result(60).result == "good"
    batches.close()


def test_closing_waits_for_what_was_submitted_and_takes_nothing_more(gate):
    batches = batcher(gate)
    futures = [batches.submit(task) for task in range(4)]
    gate.let(4)
    batches.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        batches.submit(5)


# --------------------------------------------------------------------------------------------
# Through the whole service, with a backend that waits
# --------------------------------------------------------------------------------------------
class Waiting(Backend):
    """Scores whose best class is the brightness of each pixel, modulo the number of classes."""

    name = "waiting"
    graph = "paddle"

    def __init__(self, classes):
        self._classes, self.sizes, self.open = classes, [], threading.Event()

    def run(self, batch):
        self.sizes.append(len(batch))
        assert self.open.wait(60)
        ids = np.round(batch[:, 0] * 40).astype(int) % self._classes
        return np.moveaxis(np.eye(self._classes, dtype=np.float32)[ids], -1, 1).copy()

    def describe(self):
        return {"name": self.name, "runtime": "none", "version": "0", "device": "cpu"}


@pytest.fixture
def waiting():
    artifact = Artifact.read(small_folder())
    backend = Waiting(artifact.label_set.num_classes)
    return backend, Predictor.of(artifact, backend)


def images(count, height=32, width=48):
    return [np.roll(photograph(height, width), 5 * number, axis=1) for number in range(count)]


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def masks_of(answers):
    import io

    assert [answer.status for answer in answers] == [200] * len(answers), [answer.body[:200] for answer in answers]
    return [np.load(io.BytesIO(answer.body)) for answer in answers]


def test_waiting_requests_go_together_and_each_gets_its_own_mask(waiting):
    backend, predictor = waiting
    pictures = images(6)
    with serving(predictor, batch_size=4) as client, ThreadPoolExecutor(6) as pool:
        first = pool.submit(client.post, png(pictures[0]), "?format=npy")
        wait_until(lambda: backend.sizes == [1])
        others = [pool.submit(client.post, png(picture), "?format=npy") for picture in pictures[1:]]
        wait_until(lambda: client.service.waiting() == 5)
        assert client.metric("ppliteseg_queue_length") == 5
        assert client.metric("ppliteseg_requests_in_progress") == 6
        backend.open.set()
        found = masks_of([future.result(60) for future in (first, *others)])
        assert client.metric('ppliteseg_batch_size_bucket{le="1"}') == 2
        assert client.metric('ppliteseg_batch_size_bucket{le="4"}') == 3
        assert client.metric("ppliteseg_batch_size_sum") == 6
    assert backend.sizes == [1, 4, 1]
    for mask, picture in zip(found, pictures):
        np.testing.assert_array_equal(mask, predictor.predict(picture))


def test_images_of_other_sizes_go_apart_and_large_ones_in_smaller_groups(waiting):
    backend, predictor = waiting
    predictor.max_pixels = 2 * 32 * 48
    pictures = [*images(1), *images(2, 16, 16), *images(3)]
    with serving(predictor, batch_size=4) as client, ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(client.post, png(pictures[0]), "?format=npy")]
        wait_until(lambda: backend.sizes == [1])
        for number, picture in enumerate(pictures[1:], 1):
            futures.append(pool.submit(client.post, png(picture), "?format=npy"))
            wait_until(lambda expected=number: client.service.waiting() == expected)
        backend.open.set()
        found = masks_of([future.result(60) for future in futures])
    assert backend.sizes == [1, 2, 2, 1]
    for mask, picture in zip(found, pictures):
        np.testing.assert_array_equal(mask, predictor.predict(picture))


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(waiting):
    backend, predictor = waiting
    content = png(images(1)[0])
    with serving(predictor, queue=2) as client, ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(client.post, content) for _ in range(2)]
        wait_until(lambda: client.metric("ppliteseg_requests_in_progress") == 2)
        answer = client.post(content)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.error == "the queue is full (2 requests): try again in a moment."
        assert client.get("/health").status == 200  # which waits for nobody
        backend.open.set()
        masks = [future.result(60).status for future in futures]
        assert masks == [200, 200] and client.post(content).status == 200


def test_metrics_count_answers_by_path_and_status(waiting):
    backend, predictor = waiting
    backend.open.set()
    content = png(images(1)[0])
    with serving(predictor) as client:
        statuses = [client.post(body).status for body in (content, content, b"no image")]
        client.get("/made/up"), client.get("/health")
        assert statuses == [200, 200, 400]
        for line, count in (
            ('ppliteseg_requests_total{path="/predict",status="200"}', 2),
            ('ppliteseg_requests_total{path="/predict",status="400"}', 1),
            ('ppliteseg_requests_total{path="other",status="404"}', 1),
            ('ppliteseg_requests_total{path="/health",status="200"}', 1),
            ("ppliteseg_images_total", 2),
            ("ppliteseg_latency_seconds_count", 2),
            ('ppliteseg_latency_seconds_bucket{le="+Inf"}', 2),
            ("ppliteseg_queue_length", 0),
            ("ppliteseg_requests_in_progress", 0),
        ):
            assert client.metric(line) == count, line
        answer = client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert text.endswith("\n") and text.count("# TYPE") == text.count("# HELP") == 6


def test_a_defect_is_one_line_for_the_client_and_the_next_request_works(waiting, monkeypatch):
    backend, predictor = waiting
    backend.open.set()
    content = png(images(1)[0])
    with serving(predictor) as client:
        with monkeypatch.context() as patch:
            patch.setattr(backend, "run", lambda batch: 1 / 0)
            answer = client.post(content)
        assert answer.status == 500 and answer.error == "the server failed at this request; its log says why."
        assert client.post(content).status == 200 and client.metric("ppliteseg_requests_in_progress") == 0

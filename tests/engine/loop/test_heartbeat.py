"""Signs of life between machines, through the store of Paddle's launcher."""

import contextlib
import queue
import signal
import threading
import time

import pytest
from paddle.distributed.launch.utils.kv_server import KVServer

from ppliteseg_paddle.engine.loop import distributed, launch, notes
from ppliteseg_paddle.engine.loop.heartbeat import Heartbeat, Silence
from ppliteseg_paddle.errors import ConfigError


def test_a_machine_is_lost_after_silence_and_not_while_it_says_something_new_or_is_done():
    silence = Silence([1, 2, 3], seconds=40, now=0)
    assert silence.lost({1: "1", 3: "done"}, 30) is None
    assert silence.lost({1: "1", 2: "1", 3: "done"}, 39) is None
    assert silence.lost({1: "2", 2: "1", 3: "done"}, 60) is None
    assert silence.lost({}, 79) is None  # the store did not answer
    assert silence.lost({1: "3", 2: "1", 3: "done"}, 80) == 2
    assert Silence([1, 2], seconds=40, now=0).lost({1: "1", 2: "failed"}, 1) == 2


@pytest.fixture
def store():
    server = KVServer(0)  # a free port
    server.start()
    yield f"127.0.0.1:{server.server_port:d}"
    server.stop()


@contextlib.contextmanager
def machine(number, store, seconds=600.0):
    """The thread of a machine of two. Yields it, and a queue of the machines that it calls lost."""
    told = queue.Queue()
    heartbeat = Heartbeat(store, number, 2, told.put, seconds, every=0.02)
    try:
        yield heartbeat, told
    finally:
        heartbeat.end()


def test_machines_hear_each_other_through_the_store(store):
    with machine(0, store) as (_, told), machine(1, store) as (other, _):
        other.end(failed=True)
        assert told.get(timeout=60) == 1


def test_where_the_store_cannot_be_reached_the_other_machine_is_lost():
    with machine(1, "127.0.0.1:9", seconds=0.1) as (_, told):
        assert told.get(timeout=60) == 0


def test_a_rank_that_waits_ends_when_a_machine_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv(notes.NOTES, str(tmp_path))
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(distributed, "_looked", 0.0)
    distributed.check_ranks()
    notes.note_lost_machine(str(tmp_path), 1)
    monkeypatch.setattr(distributed, "_looked", 0.0)
    with pytest.raises(notes.RankLost, match="machine 1 is gone"):
        distributed.check_ranks()


def test_names_become_addresses_by_which_the_first_machine_knows_itself():
    assert launch.with_address("localhost:6170") == "127.0.0.1:6170"
    assert launch.with_address("10.0.0.1:6170") == "10.0.0.1:6170"
    assert launch.with_address("etcd://10.0.0.1:2379") == "etcd://10.0.0.1:2379"
    with pytest.raises(ConfigError, match="--master 10.0.0.1: give HOST:PORT"):
        launch.with_address("10.0.0.1")
    with pytest.raises(ConfigError, match="no machine nowhere.invalid is known here"):
        launch.with_address("nowhere.invalid:6170", seconds=0)


def test_signals_wait_while_the_store_answers():
    """Paddle's store takes a receive that one interrupts for an error."""

    class Store:
        def add(self, key, number):
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            time.sleep(0.01)
            during.extend(got)
            return number

    got, during = [], []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        assert distributed._add(Store(), "key", 3) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    assert during == [] and got == [signal.SIGTERM]

import _thread
import contextlib
import threading
import time

import pytest

from ppliteseg_paddle.deploy.pipeline import grouped, overlapped


def live_threads():
    return {thread for thread in threading.enumerate() if thread is not threading.main_thread() and thread.is_alive()}


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads):
    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(overlapped(work, range(30), threads=threads)) == [number * number for number in range(30)]
    assert list(overlapped(work, [], threads=threads)) == []


def test_stages_in_a_row_work_at_the_same_time():
    inside, met = [threading.Event(), threading.Event()], threading.Event()

    def first(item):
        if item == 1:
            inside[0].set()
            assert inside[1].wait(20)  # only if the second stage works meanwhile
        return item

    def second(item):
        if item == 0:
            inside[1].set()
            assert inside[0].wait(20)
            met.set()
        return item

    assert list(overlapped(second, overlapped(first, range(3)))) == [0, 1, 2]
    assert met.is_set()


def test_no_more_items_are_taken_than_may_wait():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    stream = overlapped(lambda item: item, items(), threads=2, ahead=3)
    assert next(stream) == 0
    time.sleep(0.1)
    assert len(taken) <= 1 + 2 + 3 + 1
    stream.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_after_the_results_before_it_and_ends_all_threads(threads):
    before, closed = live_threads(), []

    def items():
        try:
            yield from range(50)
        finally:
            closed.append(True)

    def work(number):
        if number == 5:
            raise ValueError("five")
        return number

    found = []
    with pytest.raises(ValueError, match="five"):
        for result in overlapped(lambda item: item, overlapped(work, items(), threads=threads)):
            found.append(result)
    assert found == [0, 1, 2, 3, 4]
    assert closed == [True] and live_threads() <= before


def test_an_error_of_the_source_comes_in_its_turn():
    def items():
        yield 1
        raise OSError("the camera is gone")

    stream = overlapped(str, items())
    assert next(stream) == "1"
    with pytest.raises(OSError, match="camera is gone"):
        next(stream)


def test_who_stops_taking_results_stops_the_threads_and_the_source():
    before, closed = live_threads(), []

    def endless():
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append(True)

    stream = overlapped(str, overlapped(abs, endless(), threads=2), threads=2)
    assert [next(stream) for _ in range(3)] == ["0", "1", "2"]
    stream.close()
    assert closed == [True] and live_threads() <= before


def test_ctrl_c_while_waiting_ends_the_threads():
    before, pressed = live_threads(), threading.Event()

    def work(item):
        if item == 1:
            _thread.interrupt_main()  # what Ctrl-C does
            pressed.wait(0.5)  # still at work when it comes
        return item

    with pytest.raises(KeyboardInterrupt), contextlib.closing(overlapped(work, range(3))) as stream:
        for item in stream:
            assert item == 0
    assert live_threads() <= before


def test_groups_hold_items_of_one_key_and_leave_when_full():
    items = ["a1", "b1", "a2", "a3", "b2", "c1"]
    assert list(grouped(items, lambda item: item[0], 2)) == [["a1", "a2"], ["b1", "b2"], ["a3"], ["c1"]]
    assert list(grouped(items, lambda item: item[0], 1)) == [[item] for item in items]
    assert list(grouped([], len, 2)) == []


def test_an_item_without_a_key_does_not_wait():
    assert list(grouped(["a1", "", "a2"], lambda item: item[:1] or None, 2)) == [[""], ["a1", "a2"]]


def test_a_rare_size_does_not_wait_for_ever():
    items = ["x1"] + [f"{letter}1" for letter in "abcdefg"] + ["z1"]
    groups = grouped(iter(items), lambda item: item[0], 2, patience=4)
    assert next(groups) == ["x1"]


def test_what_waits_in_a_group_is_not_lost_to_an_error():
    def items():
        yield from ("a1", "b1")
        raise OSError("gone")

    groups = grouped(items(), lambda item: item[0], 2)
    assert [next(groups), next(groups)] == [["a1"], ["b1"]]
    with pytest.raises(OSError, match="gone"):
        next(groups)

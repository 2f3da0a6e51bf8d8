"""Signals that ask a process to end: what they raise, when, and which exit status follows."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from ppliteseg_paddle import signals


def run(code, *, numbers=()):
    """A fresh process: its exit status, and what it printed. Sends signals once it has printed "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        if numbers:
            assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        text = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    return process.returncode, text


WAITING = """
import sys, time
from ppliteseg_paddle import signals
with signals.ending():
    try:
        print("ready", flush=True)
        time.sleep(50)
    except signals.Interrupted as end:
        {cleaning}
        print(end)
        sys.exit(end.exit_status)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_each_signal_raises_and_has_its_exit_status(number, status):
    assert run(WAITING.format(cleaning="pass"), numbers=[number]) == (status, f"interrupted by {number.name}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_cleaning_up_is_not_interrupted_by_a_further_signal(number):
    status, text = run(WAITING.format(cleaning="time.sleep(1)"), numbers=[number, number])
    assert (status, text) == (128 + number, f"interrupted by {number.name}\n")


def test_a_second_ctrl_c_ends_at_once():
    assert run(WAITING.format(cleaning="time.sleep(50)"), numbers=[signal.SIGINT] * 2) == (-signal.SIGINT, "")


# A library's call that does not return, and that no signal wakes: handlers of Python's wait. PyDLL keeps Python's lock,
# so that its threads wait, too.
CALLING = """
import ctypes
from ppliteseg_paddle import signals
library, mutex = ctypes.{library}(None), ctypes.create_string_buffer(256)
library.pthread_mutex_init(mutex, None)
library.pthread_mutex_lock(mutex)
with signals.ending(), {around}:
    print("ready", flush=True)
    library.pthread_mutex_lock(mutex)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
@pytest.mark.parametrize(
    "library, around, numbers",
    [
        ("CDLL", "signals.held()", [signal.SIGINT, signal.SIGINT]),
        ("CDLL", "signals.held()", [signal.SIGINT, signal.SIGTERM]),
        ("CDLL", "signals.held()", [signal.SIGTERM, signal.SIGINT]),
        ("CDLL", "signals.telling(lambda: None)", [signal.SIGINT, signal.SIGINT, signal.SIGTERM]),
        ("PyDLL", "signals.held()", [signal.SIGINT, signal.SIGINT]),
    ],
)
def test_a_further_signal_ends_the_call_of_a_library(library, around, numbers):
    if library == "PyDLL" and not hasattr(ctypes.CDLL(None), "sysv_signal"):
        pytest.skip("this C library has no handlers for one time")
    assert run(CALLING.format(library=library, around=around), numbers=numbers) == (-numbers[-1], "")


def test_what_nohup_ignores_stays_ignored():
    code = """
    import os, signal
    from ppliteseg_paddle import signals
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.ending():
        os.kill(os.getpid(), signal.SIGHUP)
    print("continued")
    """
    assert run(code) == (0, "continued\n")


def test_a_held_signal_waits_for_the_end_of_the_block():
    done = []
    with pytest.raises(signals.Interrupted), signals.ending(), signals.held():
        with signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(signals.came())
    assert done == [signal.SIGTERM]


def test_handlers_are_what_they_were_afterwards():
    before = [signal.getsignal(number) for number in signals.ENDING]
    with pytest.raises(KeyboardInterrupt), signals.ending():
        os.kill(os.getpid(), signal.SIGHUP)
    assert [signal.getsignal(number) for number in signals.ENDING] == before
    assert signals.came() is None


def test_work_that_is_told_of_a_signal_ends_by_itself_and_a_second_ctrl_c_raises():
    told = []
    with signals.telling(lambda: told.append("end")) as came:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert (told, came()) == (["end"], signal.SIGTERM)
        with pytest.raises(signals.Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_work_was_told_of_is_dealt_with_and_the_next_one_is_a_first_one():
    code = """
    import os, signal, time
    from ppliteseg_paddle import signals
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # so that who listens has heard it
    with signals.ending():
        with signals.telling(lambda: print("told")):
            interrupt()
        try:
            with signals.telling(lambda: print("told")):
                interrupt()
                interrupt()
        except signals.Interrupted as end:
            print(end)
    """
    assert run(code) == (0, "told\ntold\ninterrupted by SIGINT\n")


DISGUISING = """
import os, signal
from ppliteseg_paddle import signals
def imported():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as interrupt:  # as pybind11 does where a module's initialization is interrupted
        {handling}
try:
    with signals.ending():
        imported()
        with signals.telling(lambda: print("told")):
            print("not reached")
except signals.Interrupted as end:
    print(end)
"""


@pytest.mark.parametrize("handling", ["raise ImportError('initialization failed') from interrupt", "pass"])
def test_an_interrupted_import_is_an_interruption_whatever_the_library_makes_of_it(handling):
    assert run(DISGUISING.format(handling=handling)) == (0, "interrupted by SIGTERM\n")


def test_other_errors_stay_what_they_are():
    with pytest.raises(ImportError, match="no such thing"), signals.ending():
        raise ImportError("no such thing")


FORKING = """
import os, signal, warnings
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads
from ppliteseg_paddle import signals
try:
    with signals.ending():
        child = os.fork()
        if child:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except signals.Interrupted:
            if not child:
                os._exit(7)
            raise
except signals.Interrupted as end:
    print(os.waitpid(child, 0)[1] >> 8, end)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_signal_to_a_forked_process_is_not_heard_by_its_parent():
    assert run(FORKING) == (0, "7 interrupted by SIGINT\n")


WORKER = """
import multiprocessing, os, time
from ppliteseg_paddle import signals
def work(parent):
    signals.begin_worker(parent)
    with signals.held():
        print(os.getpid(), flush=True)
        time.sleep({seconds})
        print("finished", flush=True)
    time.sleep(50)
process = multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),))
process.start()
"""


def test_a_worker_finishes_what_it_holds_and_ends_without_a_word():
    code = WORKER.format(seconds=1) + "time.sleep(0.5); process.terminate(); process.join(); print(process.exitcode)"
    status, text = run(code)
    assert status == 0 and text.splitlines()[1:] == ["finished", "143"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell a child")
def test_a_worker_dies_with_its_parent_however_that_dies():
    code = WORKER.format(seconds=50) + "time.sleep(0.5); os.kill(os.getpid(), 9)"
    status, text = run(code)  # communicate() returns once the worker, too, has closed the pipe
    assert status == -signal.SIGKILL and "finished" not in text


def test_paddles_handlers_are_off_and_pythons_are_back():
    code = """
    import os, signal
    from ppliteseg_paddle import environment
    signal.signal(signal.SIGTERM, lambda number, frame: print("Python's handler", flush=True))
    environment.import_paddle()
    os.kill(os.getpid(), signal.SIGTERM)
    caught = next(int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("SigCgt"))
    print([number.name for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS) if caught >> number - 1 & 1])
    """
    status, text = run(code)
    assert status == 0 and text.splitlines()[-2:] == ["Python's handler", "[]"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_handlers_that_an_interrupted_end_has_left_are_no_block_around(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signals._received)  # SIGTERM has been given back already
        with pytest.raises(signals.Interrupted) as caught, signals.ending():
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert caught.value.number == number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

"""`ppliteseg serve`: its flags, and its end in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

import cv2
import pytest
from exported import photograph, small_folder
from served import Client, wait_until

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.serve import server
from ppliteseg_paddle.serve.options import ServeOptions
from ppliteseg_paddle.serve.server import listening
from ppliteseg_paddle.weights.zoo import DEFAULT


@pytest.mark.parametrize(
    "argv, said",
    [
        (["a", "--model_dir", "b"], "give one exported model"),
        (["nowhere"], "nowhere"),
        (["x", "--port", "-1"], "-1 is not allowed"),
        (["x", "--port", "99999"], "--port is 99999; give a number up to 65535."),
        (["x", "--host", "no.such.host.invalid"], "cannot listen on --host no.such.host.invalid"),
        (["x", "--queue", "0"], "argument --queue: 0 is not allowed"),
    ],
)
def test_wrong_flags_are_one_line(argv, said, capsys):
    assert main(["serve", *argv, *([] if "--port" in argv else ["--port", "0"])]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "argv, changed",
    [
        ([], {"model_dir": DEFAULT}),  # the shipped model
        (["export"], {"model_dir": "export"}),
        (["--model_dir", "export", "--host", "::1", "--port", "0"], {"model_dir": "export", "host": "::1", "port": 0}),
        (
            ["x", "--batch_size", "2", "--streams", "3", "--num_threads", "1", "--queue", "5", "--max-upload", "7"],
            {"model_dir": "x", "batch_size": 2, "streams": 3, "num_threads": 1, "queue": 5, "max_upload": 7},
        ),
    ],
)
def test_flags_become_options_and_only_loopback_is_the_default(monkeypatch, capsys, argv, changed):
    seen = []
    result = {"images": 1, "requests": 2, "address": "http://127.0.0.1:8000"}
    monkeypatch.setattr(server, "serve", lambda options: seen.append(options) or result)
    assert main(["serve", *argv]) == 0
    assert seen == [ServeOptions(**{"host": "127.0.0.1", "port": 8000, **changed})]
    assert capsys.readouterr().out == "1 image of 2 requests served on http://127.0.0.1:8000\n"


def test_a_port_that_is_taken_is_named_before_the_model_is_opened(capsys):
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "nowhere", "--port", str(port)]) == 2
    assert f"cannot listen on --host 127.0.0.1 --port {port}: Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra_the_command_that_installs_it_is_named(module, tmp_path):
    code = (
        f"import sys; sys.modules[{module!r}] = None; from ppliteseg_paddle.cli.main import main; "
        "sys.exit(main(['serve', 'nowhere']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{module} is not installed. Install it with: pip install '.[serve]'" in done.stderr


# --------------------------------------------------------------------------------------------
# In a process of its own
# --------------------------------------------------------------------------------------------
CONTENT = cv2.imencode(".png", photograph(64, 96))[1].tobytes()
HEAD = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()

own_process = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")


class Started(NamedTuple):
    process: subprocess.Popen
    client: Client
    said: list[str]  # lines of stderr

    def begin_request(self):
        """A connection that has sent half of a request, which the server is at work on."""
        begun = socket.create_connection(("127.0.0.1", self.client.port), timeout=60)
        begun.sendall(HEAD + CONTENT[:100])
        wait_until(lambda: self.client.metric("ppliteseg_requests_in_progress") == 1)
        return begun

    def signal(self, number):
        """Send a signal that ends it, and wait until it takes no more connections."""
        self.process.send_signal(number)
        wait_until(lambda: _refuses(self.client.port))


@pytest.fixture
def started(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "ppliteseg_paddle", "serve", small_folder(), "--port", "0", "--num_threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)},
    )
    try:
        said = [process.stderr.readline()]
        address = re.search(r"http://127\.0\.0\.1:(\d+)", said[0])
        assert address, said[0] + process.stderr.read()
        reader = threading.Thread(target=lambda: said.extend(process.stderr))
        reader.start()
        yield Started(process, Client(int(address[1]), None), said)
        assert process.poll() is not None
        reader.join(60)
        assert "Traceback" not in "".join(said) and not list(tmp_path.glob("ppliteseg-serve-*"))
    finally:
        process.kill()


@pytest.mark.slow
@own_process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_that_were_begun(started, number):
    assert started.client.get("/health").status == 200
    with started.begin_request() as begun:
        started.signal(number)
        begun.sendall(CONTENT[100:])
        answer = b"".join(iter(lambda: begun.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b'"classes"' in answer
    assert started.process.wait(60) == 0
    assert "1 image of" in started.process.stdout.read()


@pytest.mark.slow
@own_process
def test_a_second_interrupt_does_not_wait_for_them(started):
    with started.begin_request():
        started.signal(signal.SIGINT)
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(20) in (128 + signal.SIGINT, -signal.SIGINT)


def _refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False

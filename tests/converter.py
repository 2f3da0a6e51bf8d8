"""`export.convert.run_converter` by a process that has loaded paddle2onnx once: each conversion is a fork of it, which
may abort as the real one may. Saves the two seconds that an import takes."""

import atexit
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import traceback

from ppliteseg_paddle.export.convert import PROGRAM
from ppliteseg_paddle.export.formats import DEFAULT_OPSET

_server = None


def run_converter(model, params, path):
    """As `export.convert.run_converter`."""
    global _server
    if _server is None or _server.poll() is not None:
        _server = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(_end, _server)
    _server.stdin.write(json.dumps([*map(os.path.abspath, (model, params, path)), os.getcwd()]) + "\n")
    _server.stdin.flush()
    return tuple(json.loads(_server.stdout.readline()))


def _end(server):
    server.stdin.close()
    server.wait()


def serve():
    """Answer each line on stdin, the files of a conversion and its folder, with exit status and output."""
    answers = os.fdopen(os.dup(1), "w")
    from ppliteseg_paddle import environment

    environment.prepare()
    import paddle2onnx  # noqa: F401 - for the forks

    for line in sys.stdin:
        *files, folder = json.loads(line)
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            child = os.fork()
            if not child:
                for number in (1, 2):
                    os.dup2(said.fileno(), number)
                os.chdir(folder)
                os._exit(_convert(files))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            answers.write(json.dumps([status, said.read()]) + "\n")
            answers.flush()


def _convert(files):
    sys.argv = ["-c", *files, str(DEFAULT_OPSET)]
    try:
        exec(PROGRAM, {})
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)  # what C++ has printed


if __name__ == "__main__":
    serve()

"""Reads changed files in a process of its own: `python -m fuzzing.worker FOLDER`.

A line "KIND SEED" on stdin is answered with one line of JSON on stdout. What is read may end this process, or never
end: `__main__` sees to that.
"""

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings

MEMORY_BYTES = 512 << 20  # that one input may take
ADDRESS_BYTES = 4 << 30  # that it can take at all


def changed(kind, name, contents, number):
    """The input of a number: the same one each time."""
    rng = random.Random(f"{name} {number}")
    return kind.change(rng, rng.choice(contents), contents)


def read(kind, path):
    """(outcome, text): "accepted", "refused", "unclear" (no message, or a long one), "memory" or "traceback"."""
    from ppliteseg_paddle.errors import LONGEST, PPLiteSegError

    try:
        kind.read(path)
    except PPLiteSegError as error:
        text = str(error)
        return ("refused" if 0 < len(text) <= LONGEST else "unclear"), text
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:  # whatever else is a defect
        return "traceback", traceback.format_exc()
    return "accepted", ""


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


class _Limits:
    """Of the address space, above what this process has already, and of the memory that is really used."""

    def __init__(self):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        self.hard = resource.getrlimit(resource.RLIMIT_AS)[1]

    def raise_to_need(self):
        resource.setrlimit(resource.RLIMIT_AS, (self.hard, self.hard))

    def set(self):
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_BYTES, self.hard))
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        self.before = _status("VmRSS")

    def taken(self):
        return _status("VmHWM") - self.before


def _status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name + ":"))


def main(folder):
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(os.path.join(folder, "worker.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)  # native code prints what it likes
    warnings.simplefilter("ignore")
    from fuzzing.kinds import KINDS
    from ppliteseg_paddle import environment

    environment.prepare()
    limits, contents = _Limits(), {}
    for line in sys.stdin:
        name, number = line.split()
        kind = KINDS[name]
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=folder) as case:
            path = os.path.join(case, "input" + kind.suffix)
            if name not in contents:
                limits.raise_to_need()
                contents[name] = kind.make(folder)
                for content in contents[name]:  # a valid file is no input, nor its memory that of what is imported
                    write(path, content)
                    outcome, text = read(kind, path)
                    assert outcome == "accepted", f"a valid file of {name}: {text}"
            write(path, changed(kind, name, contents[name], number))
            limits.set()
            start = time.monotonic()
            outcome, text = read(kind, path)
            taken = limits.taken()
        if taken > MEMORY_BYTES:
            outcome, text = "memory", f"{taken >> 20:d} MiB: {text}"
        answer = {"kind": name, "seed": int(number), "outcome": outcome, "seconds": round(time.monotonic() - start, 2)}
        answers.write(json.dumps({**answer, "text": text.replace(case, "")}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])

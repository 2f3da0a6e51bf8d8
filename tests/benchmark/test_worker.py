"""Processes that work when they are told to."""

import sys

import pytest

from ppliteseg_paddle.benchmark.studies.worker import Worker
from ppliteseg_paddle.errors import PPLiteSegError

PROGRAM = """
import json, os, sys
from ppliteseg_paddle.benchmark.studies.worker import answer

def prepare():
    options = json.loads(sys.argv[1])
    def chatter():
        print("not an answer")
        sys.stderr.write("said\\n" * 40000)  # more than a pipe holds
        return {"threads": int(os.environ["OMP_NUM_THREADS"]), "own": os.environ["OWN"], **options}
    return {"chatter": chatter, "failure": lambda: 1 // 0}

sys.exit(answer(prepare))
"""


@pytest.fixture
def worker():
    made = Worker("the candidate", [sys.executable, "-c", PROGRAM], {"a": [1]}, 3, {"OWN": "x"})
    yield made
    made.close()
    assert made.process.returncode is not None


def test_it_answers_as_often_as_it_is_asked_whatever_else_it_prints(worker):
    for _ in range(2):
        assert worker.ask("chatter") == {"threads": 3, "own": "x", "a": [1]}


def test_one_that_fails_says_why(worker):
    with pytest.raises(PPLiteSegError, match="the candidate could not do a failure: ZeroDivisionError: integer div"):
        worker.ask("failure")

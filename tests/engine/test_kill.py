"""The short form of scripts/kill_test.sh."""

import os
import subprocess
import sys

import kill_test
import pytest


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_run_that_is_ended_at_random_moments_comes_out_as_undisturbed():
    here = os.path.dirname(kill_test.__file__)
    path = os.pathsep.join([os.path.dirname(here), here, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, kill_test.__file__, "--count", "1", "--seed", "5", "--only", "workers, EMA"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("1 of 1 runs came out as undisturbed\n")

"""Training over machines: two commands on the loopback stand for two machines, as gloo and the launcher see them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import paddle
import pytest
import tiny_network
from tiny_data import make_data, values, write_config

pytestmark = pytest.mark.slow  # trains in several processes


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("machines") / "data")
    return write_config(root / "c.yml", values(root, model=tiny_network.TINY_MODEL, batch_size=2, iters=6))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(config_path, save_dir, *flags):
    """A `train` in a session of its own, as on a machine of its own."""
    command = [sys.executable, "-m", "ppliteseg_paddle", "train", "--plugin", tiny_network.__name__]
    command += ["--config", config_path, "--save_dir", str(save_dir), "--seed", "3", "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--save_interval", "2", "--nproc_per_node", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def machines(config_path, save_dir, *flags):
    """Both commands; each machine has the logs of its own rank."""
    master = ("--nnodes", "2", "--master", f"localhost:{free_port():d}", *flags)
    return [
        start(config_path, save_dir, "1", *master, "--node_rank", str(rank), "--log_dir", f"{save_dir}_log_{rank:d}")
        for rank in range(2)
    ]


def ended(process):
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            end(process)
    return process.returncode, output


def end(command):
    """Every process of a machine at once, as when its power goes."""
    for number in machine_of(command):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def weights(save_dir):
    state = paddle.load(str(save_dir / "iter_6" / "model.pdparams"), return_numpy=True)
    return {name: value.tobytes() for name, value in state.items()}


@pytest.fixture(scope="module")
def one_machine(config_path, tmp_path_factory):
    """Two ranks of one command."""
    save_dir = tmp_path_factory.mktemp("one") / "o"
    status, output = ended(start(config_path, save_dir, "2"))
    assert status == 0, output[-3000:]
    return weights(save_dir)


def test_two_machines_end_bit_equal_to_two_ranks_of_one(config_path, one_machine, tmp_path):
    for status, output in map(ended, machines(config_path, tmp_path / "o")):
        assert status == 0, output[-3000:]
    found = weights(tmp_path / "o")
    assert found.keys() == one_machine.keys() and len(found) > 50
    assert [name for name in found if found[name] != one_machine[name]] == []


def test_a_machine_that_dies_and_comes_back_resumes_with_the_other_exactly(config_path, one_machine, tmp_path):
    """The other one's command lives on: it starts again by itself."""
    save_dir = tmp_path / "o"
    flags = ("--resume_model", "auto", "--max_restart", "1")
    first, second = machines(config_path, save_dir, *flags)
    while not (save_dir / "iter_2" / "model.pdopt").exists() and first.poll() is None:
        time.sleep(0.01)
    end(second)
    ended(second)
    back = start(config_path, save_dir, *second.args[second.args.index("--nproc_per_node") + 1 :])
    (status, output), (status_back, output_back) = ended(first), ended(back)
    assert (status, status_back) == (0, 0), output[-3000:] + output_back[-3000:]
    assert "Starting again from the newest checkpoint (1 of 1 times), once all machines are there." in output
    found = weights(save_dir)
    assert [name for name in found if found[name] != one_machine[name]] == []


def machine_of(command):
    """The command, and whatever it has started, in whichever session."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:  # ended meanwhile
            continue
    found, more = [], [command.pid]
    while more:
        found += more
        more = [process for process, parent in parents.items() if parent in more]
    return found

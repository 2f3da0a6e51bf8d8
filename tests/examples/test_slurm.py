"""What the Slurm example starts on each machine, with stand-ins for Slurm's commands and for ours."""

import os
import shlex
import subprocess
from pathlib import Path

from ppliteseg_paddle.cli import main as cli

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "slurm" / "train.sbatch"
STAND_INS = {
    "scontrol": '[ "$*" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"',
    # Runs its command once for each machine.
    "srun": '[ "$1" = --kill-on-bad-exit=1 ] && shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
    "ppliteseg": "printf '%q ' \"$@\"; echo",
}


def submitted(folder, *arguments):
    for name, body in STAND_INS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["bash", SCRIPT, *arguments]
    return subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True)


def test_each_machine_gets_its_number_one_master_and_all_flags(tmp_path):
    done = submitted(tmp_path, "my config.yml", "/shared/o", "--seed", "3")
    assert done.returncode == 0, done.stderr
    machines = [cli.parse(*(words[0], words[1:])) for words in map(shlex.split, done.stdout.splitlines())]
    assert [args.node_rank for args in machines] == [0, 1]
    assert {args.master for args in machines} == {"node7:6170"} and {args.nnodes for args in machines} == {"2"}
    for args in machines:
        assert (args.config, args.save_dir, args.resume_model, args.seed) == ("my config.yml", "/shared/o", "auto", 3)
        assert args.log_dir == f"/shared/o/log/{args.node_rank}" and args.nproc_per_node == 4


def test_a_configuration_and_a_folder_are_asked_for(tmp_path):
    assert "give a folder on a shared file system" in submitted(tmp_path, "c.yml").stderr

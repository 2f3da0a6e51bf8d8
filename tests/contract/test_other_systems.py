"""Systems that lack what Linux has, simulated on Linux."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
# What Windows' Python does not have, of what anything here could use.
AS_ON_WINDOWS = """
import os, shutil, signal, subprocess, sys, tempfile, uuid
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")))
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
for name in ("sched_getaffinity", "fork", "killpg", "getpgid", "statvfs", "mkfifo", "getuid", "O_DIRECTORY"):
    delattr(os, name)
from ppliteseg_paddle.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_exported_model_runs_without_what_windows_lacks(tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "photo.png"), np.full((64, 96, 3), 127, np.uint8))
    command = [sys.executable, "-c", AS_ON_WINDOWS, "predict", "--image_path", "photo.png", "--save_dir", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask = cv2.imread(str(tmp_path / "out" / "mask" / "photo.png"))
    assert mask.shape == (64, 96, 3)

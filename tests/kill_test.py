"""Runs that are ended again and again at random moments, and must come out as if nothing had happened.

    bash scripts/kill_test.sh --count 50 --seed 0

Each run is started with `--resume_model auto`, gets a signal at a random moment, and is started again, up to 3 times;
then it runs to its end. Checked: the files of the last checkpoint and of the best model equal the undisturbed run's bit
for bit; SIGINT, SIGTERM, SIGHUP lose no step; no process and no temporary file is left; nothing waits for long.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tiny_data import make_data, values, write_config

ITERS, IMAGES, PATIENCE = 9, 11, 60  # batches of 2 do not divide the images
VARIANTS = {
    "evaluation": ["--do_eval"],
    "workers": ["--do_eval", "--num_workers", "2"],
    "EMA": ["--do_eval", "--use_ema"],
    "workers, EMA": ["--do_eval", "--use_ema", "--num_workers", "2"],
    "two ranks": ["--do_eval", "--num_workers", "1", "--nproc_per_node", "2"],
}
SOFT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
COMPARED = (
    *(f"iter_{ITERS}/{name}" for name in ("model.pdparams", "model.pdopt", "ema_model.pdparams")),
    *("best_model/model.pdparams", "ema_best_model/ema_model.pdparams"),
)


class Fault(Exception):
    """What a run must not do."""


def command(config: Path, save_dir: Path, flags: list[str]) -> list[str]:
    fixed = ["--iters", ITERS, "--save_interval", 3, "--log_iters", 1, "--seed", 1, "--device", "cpu"]
    own = ["train", "--config", config, "--save_dir", save_dir, "--resume_model", "auto", *fixed, *flags]
    return [sys.executable, "-m", "ppliteseg_paddle", *map(str, own)]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    temporary = log.parent / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        return subprocess.Popen(
            arguments,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )


def end_of(process: subprocess.Popen, seconds: float) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault(f"still there after {seconds:.0f} s") from None


def nobody_left(save_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _mentions(path, save_dir)]
        if not found:
            return
        if time.monotonic() > deadline:
            raise Fault(f"left behind: {', '.join(path.parent.name for path in found)}")
        time.sleep(0.2)


def _mentions(path: Path, save_dir: Path) -> bool:
    try:
        return str(save_dir).encode() in path.read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False


def digests(save_dir: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((save_dir / name).read_bytes()).hexdigest()
        for name in COMPARED
        if (save_dir / name).is_file()
    }


def disturbed(arguments: list[str], save_dir: Path, log: Path, duration: float, draws: random.Random) -> str:
    """One start that gets a signal. Returns: what was done, in words."""
    number = draws.choice([signal.SIGKILL, *SOFT])
    delay = draws.uniform(0.1, 1.05) * duration
    process = start(arguments, log)
    time.sleep(delay)
    running = process.poll() is None
    process.send_signal(number)
    status = end_of(process, PATIENCE)
    nobody_left(save_dir)
    said, text = f"{number.name} at {delay:.1f} s", log.read_text(errors="replace")
    if number not in SOFT or not running or status == 0:
        return said
    unprepared = "checking" not in text or "\nnext:\n" in text  # Python has not begun, or everything has been done
    if status != SOFT[number] and not (status == -number and unprepared):
        raise Fault(f"{said}: status {status}; {text[-600:]}")
    match = re.search(r"stopped after iteration (\d+); resume with: .*/iter_(\d+)$", text, re.MULTILINE)
    if match and match.group(1) != match.group(2):
        raise Fault(f"{said}: {match.group(0)}")
    return said


def try_run(config: Path, flags: list[str], folder: Path, duration: float, draws: random.Random) -> tuple[str, Path]:
    """Returns: what was done, and the folder that was written."""
    save_dir, log = folder / "output", folder / "log.txt"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = command(config, save_dir, flags)
    done = [disturbed(arguments, save_dir, log, duration, draws) for _ in range(draws.randint(1, 3))]
    if end_of(start(arguments, log), 10 * PATIENCE):
        raise Fault(f"{', '.join(done)}: does not resume: {log.read_text(errors='replace')[-600:]}")
    nobody_left(save_dir)
    hidden = [path.name for path in save_dir.rglob(".*") if path.name != ".lock"]
    left = hidden + os.listdir(folder / "tmp")
    if left:
        raise Fault(f"{', '.join(done)}: left behind: {', '.join(left)}")
    return ", ".join(done), save_dir


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals (default: %(default)s)")
    parser.add_argument("--only", choices=VARIANTS, action="append", help="these variants")
    args = parser.parse_args()
    draws, names, faults = random.Random(args.seed), args.only or list(VARIANTS), 0
    with tempfile.TemporaryDirectory(prefix="ppliteseg_kill_test_") as work:
        root = make_data(Path(work) / "data", train=IMAGES)
        config = Path(write_config(root / "c.yml", values(root, batch_size=2)))
        whole: dict[str, tuple[dict[str, str], float]] = {}
        for number in range(args.count):
            name = names[number % len(names)]
            try:
                if name not in whole:
                    begin, folder = time.monotonic(), Path(work) / f"whole_{name}"
                    if end_of(
                        start(command(config, folder / "output", VARIANTS[name]), folder.with_suffix(".txt")), 600
                    ):
                        raise Fault(folder.with_suffix(".txt").read_text()[-600:])
                    whole[name] = digests(folder / "output"), time.monotonic() - begin
                expected, duration = whole[name]
                done, save_dir = try_run(config, VARIANTS[name], Path(work) / "run", duration, draws)
                found = digests(save_dir)
                different = [file for file in expected if found.get(file) != expected[file]]
                if different or not expected:
                    raise Fault(f"{done}: differs in {', '.join(different)}")
                print(f"{number + 1:3d}  {name}: {done}: equal", flush=True)
            except Fault as fault:
                faults += 1
                print(f"{number + 1:3d}  {name}: FAULT: {fault}", flush=True)
    print(f"{args.count - faults} of {args.count} runs came out as undisturbed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Many changed files, read by workers with limits; outcomes are counted. `bash scripts/fuzz.sh --help`."""

import argparse
import collections
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from fuzzing.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = ("accepted", "refused", "unclear", "traceback", "crash", "hang", "memory")
GOOD = ("accepted", "refused")
SECONDS = 60  # that one input may take; a worker's first one imports packages and makes exports
FIRST_SECONDS = 240


class Worker:
    """One process. It is replaced when an input has ended it, or must be ended."""

    def __init__(self, folder):
        self.folder, self.process, self.known = folder, None, set()

    def outcome(self, kind, seed):
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(f"{kind} {seed}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._ended(kind, seed)
        limit = SECONDS if kind in self.known else FIRST_SECONDS
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.close()
            return {"kind": kind, "seed": seed, "outcome": "hang", "seconds": limit, "text": f"over {limit:d} s"}
        line = self.process.stdout.readline()
        if not line:
            return self._ended(kind, seed)
        self.known.add(kind)
        return json.loads(line)

    def _start(self):
        paths = [str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **variables}
        )
        self.known = set()

    def command(self):
        return [sys.executable, "-m", "fuzzing.worker", str(self.folder)]

    def _ended(self, kind, seed):
        status = self.process.wait()
        self.close()
        if status >= 0:
            sys.exit(f"error: the worker has ended with status {status:d}: see {self.folder / 'worker.log'}.")
        # The system ends with SIGKILL what takes its last memory.
        outcome = "memory" if status == -signal.SIGKILL else "crash"
        return {"kind": kind, "seed": seed, "outcome": outcome, "seconds": 0, "text": signal.Signals(-status).name}

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


def numbers_of(count, kinds):
    """How many inputs of each kind: by their shares, `count` together, but at least one each."""
    total, numbers, before = sum(KINDS[name].share for name in kinds), {}, 0
    for name in kinds:
        upto = before + KINDS[name].share
        numbers[name] = max(1, round(count * upto / total) - round(count * before / total))
        before = upto
    return numbers


def known_results(folder):
    path = folder / "results.jsonl"
    results = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # cut off
            results.append(json.loads(line))
    return results


def run(folder, tasks, jobs, report=lambda result: None):
    """Reads the inputs that `folder` has no result of, and writes a line for each."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.jsonl"
    if path.exists() and not path.read_text().endswith("\n"):
        path.write_text(path.read_text() + "\n")
    waiting = queue.SimpleQueue()
    done = {(result["kind"], result["seed"]) for result in known_results(folder)}
    for task in tasks:
        if task not in done:
            waiting.put(task)
    failures = []

    def work(file, lock):
        worker = Worker(folder)
        try:
            while True:
                kind, seed = waiting.get_nowait()
                result = worker.outcome(kind, seed)
                with lock:
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    report(result)
        except queue.Empty:
            pass
        except BaseException as error:  # also SystemExit: said by the main thread
            failures.append(error)
        finally:
            worker.close()

    with open(path, "a") as file:
        lock = threading.Lock()
        threads = [threading.Thread(target=work, args=(file, lock)) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return known_results(folder)


def table(results):
    """Markdown: a row of counts for each kind, and one for all."""
    counts = collections.Counter((result["kind"], result["outcome"]) for result in results)
    kinds = [name for name in KINDS if any(counts[name, outcome] for outcome in OUTCOMES)]
    rows = [[name, *(counts[name, outcome] for outcome in OUTCOMES)] for name in kinds]
    rows.append(["all", *(sum(row[column + 1] for row in rows) for column in range(len(OUTCOMES)))])
    head = ["Kind", "Inputs", *(outcome.capitalize() for outcome in OUTCOMES)]
    body = [[name, str(sum(numbers)), *map(str, numbers)] for name, *numbers in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *body])


def main():
    parser = argparse.ArgumentParser(prog="scripts/fuzz.sh", description=__doc__.split(";")[0])
    parser.add_argument("--count", type=int, default=20000, help="inputs, all kinds together (default: 20000)")
    parser.add_argument("--first_seed", type=int, default=0, help="of each kind; another one gives other inputs")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=" ".join(KINDS))
    parser.add_argument("--results", type=Path, default=ROOT / "fuzz_results", help="folder; a run there is continued")
    parser.add_argument("--jobs", type=int, default=1, help="workers (default: 1)")
    parser.add_argument("--only", metavar="KIND:SEED", help="repeat one input, keep its file, print what is said of it")
    args = parser.parse_args()
    if args.only:
        return repeat(args.results, args.only)

    def report(result):
        if result["outcome"] not in GOOD:
            print(
                f"{result['outcome']}: {result['kind']}:{result['seed']}: {result['text'].strip()[-300:]}", flush=True
            )

    numbers = numbers_of(args.count, args.kinds)
    tasks = [
        (name, seed) for name, number in numbers.items() for seed in range(args.first_seed, args.first_seed + number)
    ]
    wanted = set(tasks)
    results = [r for r in run(args.results, tasks, args.jobs, report) if (r["kind"], r["seed"]) in wanted]
    print(table(results))
    bad = [result for result in results if result["outcome"] not in GOOD]
    if bad:
        print(f"{len(bad):d} to fix; one of them again: bash scripts/fuzz.sh --only {bad[0]['kind']}:{bad[0]['seed']}")
    return 1 if bad else 0


def repeat(folder, name):
    from fuzzing.worker import changed, write

    kind, _, seed = name.rpartition(":")
    if kind not in KINDS or not seed.isdecimal():
        print("error: --only takes KIND:SEED, as in image.png:17", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{seed}{KINDS[kind].suffix}"
    write(path, changed(KINDS[kind], kind, KINDS[kind].make(str(folder)), seed))
    worker = Worker(folder)
    result = worker.outcome(kind, int(seed))
    worker.close()
    print(f"{path}\n{result['outcome']} after {result['seconds']} s\n{result['text']}")
    return 0 if result["outcome"] in GOOD else 1


if __name__ == "__main__":
    sys.exit(main())

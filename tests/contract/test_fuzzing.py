"""The fuzzer in short: a few changed files of every kind. `bash scripts/fuzz.sh` reads 20,000."""

import fuzzing.__main__ as fuzzer
import pytest
from fuzzing.kinds import KINDS

from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import DataError


@pytest.mark.slow
def test_changed_files_of_every_kind_are_read_or_refused_in_one_line(tmp_path):
    tasks = [(name, seed) for name in KINDS for seed in range(3)]
    results = fuzzer.run(tmp_path, tasks, jobs=1)
    assert [result for result in results if result["outcome"] not in fuzzer.GOOD] == []
    assert {(result["kind"], result["seed"]) for result in results} == set(tasks)
    assert {result["outcome"] for result in results} == set(fuzzer.GOOD)


class Faulty(fuzzer.Worker):
    """Ends at one input, never ends at another."""

    code = (
        "import sys, os, time, json\n"
        "for line in sys.stdin:\n"
        "    kind, seed = line.split()\n"
        "    if seed == '1': os.abort()\n"
        "    if seed == '2': time.sleep(600)\n"
        "    answer = {'kind': kind, 'seed': int(seed), 'outcome': 'accepted', 'seconds': 0, 'text': ''}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )

    def command(self):
        command = super().command()
        return [command[0], "-c", self.code]


def test_crashes_and_hangs_are_counted_and_the_run_ends_and_can_be_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzer, "Worker", Faulty)
    monkeypatch.setattr(fuzzer, "FIRST_SECONDS", 5)
    monkeypatch.setattr(fuzzer, "SECONDS", 5)
    tasks = [("list", seed) for seed in range(4)]
    fuzzer.run(tmp_path, tasks[:2], jobs=1)
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('{"kind": "list", "se')  # cut off
    results = fuzzer.run(tmp_path, tasks, jobs=1)
    assert [result["outcome"] for result in results] == ["accepted", "crash", "hang", "accepted"]
    assert fuzzer.table(results).splitlines()[-1] == "| all | 4 | 2 | 0 | 0 | 0 | 1 | 1 | 0 |"


@pytest.mark.skipif(paddle_version() < (3,), reason="Paddle 2 writes no .json graphs")
@pytest.mark.parametrize("name", ["graph.json", "graph.pdiparams"])
def test_the_file_that_is_changed_is_the_one_that_is_opened(name, tmp_path):
    from fuzzing.worker import read

    kind = KINDS[name]
    kind.make(str(tmp_path))
    path = tmp_path / f"changed{kind.suffix}"
    path.write_bytes(b"{}")
    assert read(kind, str(path))[0] == "refused"


def test_outcomes_of_a_reader_are_told_apart():
    from fuzzing.worker import read

    def raises(error):
        def reader(path):
            raise error

        return KINDS["list"].__class__(1, "", None, reader)

    outcomes = [read(raises(error), "x")[0] for error in (DataError("no"), DataError(), MemoryError(), KeyError(1))]
    assert outcomes == ["refused", "unclear", "memory", "traceback"]


def test_an_input_is_the_same_each_time(tmp_path):
    from fuzzing.worker import changed

    for name in ("config", "image.png", "weights.pdparams", "archive.tar"):
        contents = KINDS[name].make(str(tmp_path))
        again = KINDS[name].make(str(tmp_path))
        assert changed(KINDS[name], name, contents, 7) == changed(KINDS[name], name, again, "7")


@pytest.mark.parametrize("count", [20000, 1234])
def test_the_numbers_of_all_kinds_are_the_count_together(count):
    numbers = fuzzer.numbers_of(count, list(KINDS))
    assert sum(numbers.values()) == count
    assert numbers["graph.json"] == pytest.approx(2 * numbers["graph.bin"], abs=2)
    assert set(fuzzer.numbers_of(1, list(KINDS)).values()) == {1}

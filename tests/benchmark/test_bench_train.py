"""The benchmarks of training: a step, and what a recipe learns."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from ppliteseg_paddle.benchmark.studies import ranks, recipe
from ppliteseg_paddle.benchmark.studies import training as train
from ppliteseg_paddle.benchmark.studies.training_candidate import STAGES
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError

pytestmark = pytest.mark.slow  # trains in processes

OPTIONS = {"model": "T", "num_classes": 3, "batch_size": 2, "size": [32, 64], "min_kept": 100}


@pytest.fixture
def torch_python(tmp_path):
    """In place of LibreYOLO's Python: what answers every line in the same way."""
    seconds = {**dict.fromkeys(STAGES, 0.25), "total": 1.0}
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\nwhile read -r line; do echo '{json.dumps(seconds)}'; done\n")
    path.chmod(0o755)
    return str(path)


def test_baseline_and_ours_are_measured_round_robin_by_stages(torch_python):
    result = train.run(num_threads=1, warmup=0, repeats=2, torch_python=torch_python, **OPTIONS)
    assert result["results"]["step"].pop(train.LIBREYOLO)["total"]["median_ms"] == 1000
    assert train.LIBREYOLO not in result["results"]["loss"]
    assert set(result["results"]) >= {"step", "loss"}
    for name in train.CANDIDATES:
        step = result["results"]["step"][name]
        assert set(step) == {"total", "times_faster", *STAGES}
        assert sum(step[stage]["mean_ms"] for stage in STAGES) == pytest.approx(step["total"]["mean_ms"])
        assert result["results"]["loss"][name]["total"]["median_ms"] > 0
    assert result["results"]["step"]["paddleseg"]["times_faster"]["median"] == 1
    lines = train.table(result).splitlines()
    assert [line.split("  ")[0] for line in lines[3 : 3 + len(train.CANDIDATES)]] == list(train.CANDIDATES)
    json.dumps(result)


def test_what_libreyolo_cannot_do_is_refused_before_anything_starts(torch_python):
    with pytest.raises(PPLiteSegError, match="size is 32 65, but LibreYOLO's network takes multiples of 32"):
        train.run(num_threads=1, warmup=0, repeats=1, torch_python=torch_python, **{**OPTIONS, "size": [32, 65]})
    with pytest.raises(PPLiteSegError, match="--torch_python absent/python is no program"):
        train.run(num_threads=1, warmup=0, repeats=1, torch_python="absent/python", **OPTIONS)


def test_a_candidate_that_fails_says_why():
    command = train.module_command(train.CANDIDATE)
    worker = train.Worker("ppliteseg_paddle", command, {**OPTIONS, "model": "XXL", "who": "ours"}, 1)
    with pytest.raises(PPLiteSegError, match="ppliteseg_paddle could not do a step: KeyError: 'XXL'"):
        worker.ask("step")
    worker.close()


class Stopwatch:
    """In place of a process: its step takes as many seconds as it has images, divided by its threads, and averaging
    half a second more."""

    def __init__(self, name, command, options, threads, environment):
        ranks_ = int(environment.get("PADDLE_TRAINERS_NUM", 1))
        averaging = 0.5 if ranks_ > 1 else 0.0
        total = options["batch_size"] / threads + averaging
        self.seconds = {"total": total, "averaging": averaging}

    def ask(self, work):
        return self.seconds

    def close(self):
        pass


def test_ranks_are_compared_by_images_a_second(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ranks, "Worker", Stopwatch)
    monkeypatch.setattr("ppliteseg_paddle.benchmark.timing.time.sleep", lambda seconds: None)
    path = tmp_path / "ranks.json"
    command = ["training", "--batch_size", "2", "--ranks", "2", "--warmup", "0", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--save_json", str(path)])
    assert train.main() == 0
    found = json.loads(path.read_text())["results"]
    keys = ("processes", "threads", "images", "images_per_second", "times_the_rate", "efficiency")
    assert {name: [row[key] for key in keys] for name, row in found.items()} == {
        ranks.ALONE: [1, 1, 2, pytest.approx(1), pytest.approx(1), pytest.approx(1)],
        ranks.BESIDE: [2, 1, 4, pytest.approx(2), pytest.approx(2), pytest.approx(1)],
        ranks.JOINTLY: [2, 1, 4, pytest.approx(1.6), pytest.approx(1.6), pytest.approx(0.8)],
        ranks.THREADS: [1, 2, 4, pytest.approx(2), pytest.approx(2), pytest.approx(1)],
    }
    assert "500" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith(ranks.JOINTLY))


def test_ranks_average_in_each_step():
    options = {**OPTIONS, "who": "ours", "batch_size": 1}
    command = train.module_command("ppliteseg_paddle.benchmark.studies.ranks")
    group = [train.Worker("a rank", command, options, 1, one) for one in ranks._variables(2)]
    with ThreadPoolExecutor(2) as pool:
        found = ranks._together(pool, group)
    for worker in group:
        worker.close()
    assert 0 < found["averaging"] < found["update"] < found["total"]


def test_one_rank_is_no_comparison():
    with pytest.raises(ConfigError, match="--ranks is 1; give 2 or more"):
        ranks.run(OPTIONS, 1, 0, 1)


def record(folder, **values):
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(
        json.dumps(
            {
                "batch_size": 4,
                "ranks": 2,
                "max_minutes": 60,
                "seconds": 3700.5,
                "versions": {"paddle": "3.2.2"},
                "eval": [
                    {"iter": 50, "ema": False, "mIoU": 0.9},
                    {"iter": 100, "ema": False, "mIoU": 0.5},
                    {"iter": 100, "ema": True, "mIoU": 0.55},
                ],
                **values,
            }
        )
    )


def test_the_figure_of_a_run_is_that_of_its_last_weights(tmp_path):
    record(tmp_path / "run")
    found = recipe.outcome(str(tmp_path / "run"))
    assert (found["best"], found["mIoU"], found["mIoU_averaged"], found["samples"]) == (0.55, 0.5, 0.55, 800)


def test_runs_that_have_ended_are_not_repeated(tmp_path, monkeypatch):
    started = []

    def train_once(name, minutes, save_dir, seed, options):
        started.append((name, seed))
        record(tmp_path / save_dir, eval=[{"iter": 10, "ema": False, "mIoU": 0.25 + seed}], ranks=1)
        return recipe.outcome(save_dir)

    monkeypatch.setattr(recipe, "train_once", train_once)
    first = recipe.run(1, 1, str(tmp_path), list(recipe.RECIPES), [])
    second = recipe.run(1, 2, str(tmp_path), list(recipe.RECIPES), [])
    assert started == [(name, seed) for seed in (0, 1) for name in recipe.RECIPES]
    assert second["results"][recipe.BASELINE][0] == first["results"][recipe.BASELINE][0]
    assert "25.0" in recipe.table(second)

"""`benchmark` with several candidates and protocols, and `report`, from the command line."""

import json

import pytest
from exported import photograph, small_folder
from run_folder import make_run

from ppliteseg_paddle.benchmark.paper import REPORTED
from ppliteseg_paddle.benchmark.tables import rows_of, text_table
from ppliteseg_paddle.cli.main import main

QUICK = ["--warmup", "1", "--repeats", "2", "--device", "cpu", "--num_threads", "1"]


def benchmark(*arguments):
    return main(["benchmark", "--model_dir", small_folder("argmax"), *map(str, arguments), *QUICK])


def test_the_papers_protocol_prints_the_papers_rows_apart(tmp_path, capsys):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.jpg"), photograph(64, 96))
    assert (
        benchmark(
            "--protocol",
            "paper",
            "--image",
            tmp_path / "photo.jpg",
            "--backend",
            "paddle",
            "paddle-native",
            "--input_shape",
            1,
            3,
            64,
            128,
            "--save_json",
            tmp_path / "p.json",
        )
        == 0
    )
    out = capsys.readouterr().out
    measured, _, reported = out.partition("The authors' own figures, on their machine")
    assert "paddle-native" in measured and "273.6" not in measured and "273.6" in reported
    result = json.loads((tmp_path / "p.json").read_text())
    assert result["image"]["prepared"] == "resized from 64x96 beforehand" and result["input_shape"] == [1, 3, 64, 128]
    assert [row["name"] for row in rows_of(result)] == ["paddle", "paddle-native"]
    assert len(result["reported"]) == sum(row.table == 2 for row in REPORTED.values())


def test_folders_are_compared_by_their_names(tmp_path, capsys):
    assert (
        benchmark("--compare", small_folder("none"), "--backend", "paddle-native", "--input_shape", 1, 3, 32, 64) == 0
    )
    assert "times faster" in capsys.readouterr().out


@pytest.mark.slow
def test_throughput_prints_streams_and_batch(capsys):
    assert (
        benchmark(
            "--protocol",
            "throughput",
            "--backend",
            "paddle-native",
            "--streams",
            1,
            "--batch_size",
            2,
            "--input_shape",
            1,
            3,
            32,
            64,
        )
        == 0
    )
    assert "streams" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--protocol", "latenci"], "latenci"),
        (["--streams", "2"], "--streams is for --protocol throughput"),
        (["--compare", "nowhere"], "nowhere does not exist"),
    ],
)
def test_benchmark_refuses_what_does_not_fit(arguments, words, capsys):
    assert benchmark(*arguments) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "latency.json"
    assert benchmark("--backend", "paddle-native", "--input_shape", 1, 3, 32, 64, "--save_json", path) == 0
    return path


def test_report_draws_measured_accuracy_and_speed_beside_the_papers(tmp_path, measured, capsys):
    name = rows_of(json.loads(measured.read_text()))[0]["name"]
    (tmp_path / "val.json").write_text(json.dumps({"mIoU": 0.552}))
    assert (
        main(
            [
                "report",
                "--results",
                str(measured),
                "--accuracy",
                f"{name}={tmp_path / 'val.json'}",
                "--save_dir",
                str(tmp_path / "r"),
            ]
        )
        == 0
    )
    text = (tmp_path / "r" / "report.md").read_text()
    assert "55.2 (measured)" in text and "accuracy_speed.png" in text and "not measured here" in text
    assert (tmp_path / "r" / "accuracy_speed.png").read_bytes()[:4] == b"\x89PNG"
    assert rows_of(json.loads((tmp_path / "r" / "report.json").read_text()))[0]["accuracy"] == {
        "miou": 55.2,
        "reported": False,
    }


def test_report_without_an_accuracy_draws_nothing_and_says_so(tmp_path, measured, capsys):
    assert main(["report", "--results", str(measured), "--save_dir", str(tmp_path / "r")]) == 0
    assert "no figure" in capsys.readouterr().out and not (tmp_path / "r" / "accuracy_speed.png").exists()


@pytest.mark.parametrize(
    "content, accuracy, words",
    [
        (None, [], "does not exist"),
        ("{}", [], "holds no benchmark results"),
        ("measured", ["--accuracy", "other=50"], "which no result has"),
        ("measured", ["--accuracy", "50"], "NAME=FILE"),
    ],
)
def test_report_refuses_bad_input_on_one_line(tmp_path, measured, capsys, content, accuracy, words):
    path = measured if content == "measured" else tmp_path / "other.json"
    if content == "{}":
        path.write_text(content)
    assert main(["report", "--results", str(path), "--save_dir", str(tmp_path / "r"), *accuracy]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "r").exists()


def test_tables_stand_in_columns():
    assert text_table(["", "ms"], [["a", "1.0"], ["long", "10.0"]]) == "        ms\na      1.0\nlong  10.0"


def test_report_of_runs_is_one_page_and_its_numbers(tmp_path, capsys):
    folder = make_run(tmp_path / "one")
    assert main(["report", "--runs", str(folder), "--save_dir", str(tmp_path / "r"), "--title", "T & B", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [str(tmp_path / "r" / "report.html")]
    assert (result["runs"][0]["name"], result["runs"][0]["best"]) == ("one", 0.5)
    assert "<h1>T &amp; B</h1>" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--runs", "nowhere"], "nowhere holds no training run: it has no train.json."),
        (["--runs", "one", "--accuracy", "a=1"], "--accuracy is for --results"),
        (["--runs", "one", "--results", "a.json"], "argument --results: not allowed with argument --runs"),
        ([], "one of the arguments --runs --results is required"),
    ],
)
def test_report_refuses_what_does_not_fit(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "output").exists()

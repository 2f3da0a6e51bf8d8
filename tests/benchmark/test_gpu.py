import json

import pytest
from tiny_onnx import tiny_artifact

from ppliteseg_paddle.benchmark.studies import gpu_bench, gpu_exports
from ppliteseg_paddle.benchmark.studies.gpu import main
from ppliteseg_paddle.errors import ConfigError

pytest.importorskip("onnx", reason="comes with the extra 'deploy'")
pytest.importorskip("onnxruntime", reason="comes with the extra 'deploy'")


@pytest.fixture
def tiny(monkeypatch):
    """Exports of a convolution in place of the networks; PaddleSeg's INT8 cannot be had, as ever."""
    made = []

    def export(what, folder):
        made.append((what.key, what.precision, what.batch))
        if what.key == "STDC1-Seg50":
            raise ConfigError("it cannot be converted.")
        # what stands for INT8 computes something else, so that masks differ
        return tiny_artifact(folder, what.batch, what.key, seed=int(what.precision == "int8"))

    monkeypatch.setattr(gpu_exports, "export", export)
    monkeypatch.setattr(
        gpu_bench, "_measure_ceilings", lambda *arguments: {"macs_per_second": 1e12, "bytes_per_second": 1e11}
    )
    return made


def run(tmp_path, *arguments):
    common = [
        "--device",
        "cpu",
        "--save_dir",
        str(tmp_path / "out"),
        "--warmup",
        "0",
        "--repeats",
        "2",
        "--num_threads",
        "1",
    ]
    return main(common + [str(argument) for argument in arguments])


@pytest.mark.slow
def test_networks_are_compared_with_the_cpu_and_measured_round_robin(tmp_path, tiny, capsys):
    assert (
        run(
            tmp_path,
            "--networks",
            "PaddleSeg-T1",
            "T1",
            "--runtimes",
            "onnxruntime",
            "onnxruntime-bound",
            "--precisions",
            "fp32",
            "--profile",
        )
        == 0
    )
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [(row["key"], row["runtime"]) for row in result["rows"]] == [
        (key, runtime) for runtime in ("onnxruntime", "onnxruntime-bound") for key in ("PaddleSeg-T1", "T1")
    ]
    for row in result["rows"]:
        assert (
            row["differing_pixels"] == 0
            and row["bare_ms"] > 0
            and row["roofline"]["distance"] > 0
            and row["accuracy"]["reported"]
        )
        assert (row["times_faster"] is None) == (row["key"] == "PaddleSeg-T1")
    assert result["rows"][3]["times_faster_bare"]["median"] > 0 and "T1, onnxruntime, fp32" in result["profiles"]
    assert [row["key"] for row in result["paper"]] == ["PaddleSeg-T1", "T1"] and result["machine"]["versions"]
    report = (tmp_path / "out" / "gpu.md").read_text()
    assert "not measured here" in report and "273.6" in report and "Where the time goes" in report
    assert "PP-LiteSeg-T1" in capsys.readouterr().out


def test_masks_that_differ_are_told_and_what_fails_is_noted(tmp_path, tiny, capsys):
    assert (
        run(
            tmp_path,
            "--networks",
            "T1",
            "STDC1-Seg50",
            "--runtimes",
            "onnxruntime",
            "--precisions",
            "fp32",
            "int8",
            "fp16",
            "--no_paper",
            "--no_roofline",
        )
        == 0
    )
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert {row["precision"]: row["differing_pixels"] > 0 for row in result["rows"]} == {"fp32": False, "int8": True}
    assert "it cannot be converted." in result["failures"]["export of STDC1-Seg50 in fp32"]
    assert "no fp16 on the cpu" in result["failures"]["onnxruntime, fp16"] and len(result["failures"]) == 2


def test_larger_batches_are_tried_while_they_pay(tmp_path, tiny):
    assert (
        run(
            tmp_path,
            "--networks",
            "T1",
            "--runtimes",
            "onnxruntime-bound",
            "--precisions",
            "fp32",
            "--batches",
            1,
            2,
            "--no_paper",
        )
        == 0
    )
    (row,) = json.loads((tmp_path / "out" / "gpu.json").read_text())["rows"]
    assert set(row["batches_tried"]) == {"1", "2"} and row["best_batch"] in (1, 2) and row["best_batch_fps"] > 0
    assert ("T1", "fp32", -1) in tiny


def test_exports_are_made_once_and_can_be_all_that_is_done(tmp_path, tiny, capsys):
    for _ in range(2):
        assert run(tmp_path, "--networks", "T1", "--precisions", "fp32", "--export_only") == 0
    assert tiny == [("T1", "fp32", 1)] and "exports are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--networks", "T9"], "unknown network 'T9'"),
        (["--networks", "T1", "--images", "nowhere.png"], "nowhere.png does not exist"),
        (["--networks", "T1", "--weights", "T1"], "--weights takes NETWORK=FILE"),
        (["--networks", "T1", "--device", "tpu"], "tpu"),
    ],
)
def test_bad_input_is_told_on_one_line(tmp_path, tiny, capsys, arguments, words):
    assert run(tmp_path, *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last


def test_without_a_gpu_nothing_is_claimed(tmp_path, tiny, capsys):
    assert (
        main(
            [
                "--device",
                "gpu",
                "--save_dir",
                str(tmp_path),
                "--networks",
                "T1",
                "--runtimes",
                "onnxruntime-bound",
                "--precisions",
                "fp32",
                "--batches",
                "1",
            ]
        )
        == 2
    )
    assert "nothing could be measured" in capsys.readouterr().err

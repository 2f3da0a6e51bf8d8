import json

import pytest
from exported import Small, small_model

from ppliteseg_paddle.benchmark.paper import REPORTED, reported_order
from ppliteseg_paddle.benchmark.studies import networks
from ppliteseg_paddle.benchmark.studies.networks import NETWORKS, TABLE2, Export, Network, accuracy_of
from ppliteseg_paddle.benchmark.studies.table2 import main
from ppliteseg_paddle.deploy.artifact import Artifact


@pytest.fixture
def small(monkeypatch):
    """Two networks of two layers in place of all."""
    rows = {
        "PaddleSeg-T1": Network("PaddleSeg's own", (32, 64), lambda: small_model(19)),
        "T1": Network("PP-LiteSeg-T1", (32, 64), lambda: small_model(19), True, "PaddleSeg-T1"),
    }
    monkeypatch.setattr(networks, "calibrate", lambda model: model.eval())
    for key, row in rows.items():
        monkeypatch.setitem(NETWORKS, key, row)


def test_our_rows_are_compared_with_paddlesegs_of_the_same_size():
    assert set(TABLE2) <= set(NETWORKS)
    for key, row in NETWORKS.items():
        assert row.ours == (row.against is not None)
        if row.against:
            assert NETWORKS[row.against].size == row.size and row.against == "PaddleSeg-" + key
        if key in REPORTED:
            assert REPORTED[key].size == row.size


def test_accuracies_are_the_papers_and_marked_so():
    assert accuracy_of("T1") == accuracy_of("PaddleSeg-T1") == {"miou": 73.1, "reported": True}
    assert accuracy_of("DDRNet-23") is None
    assert reported_order(["STDC2-Seg50", "B1", "T1", "DDRNet-23", "STDC1-Seg50"]) == [
        "T1",
        "STDC1-Seg50",
        "B1",
        "STDC2-Seg50",
    ]


@pytest.mark.slow
def test_the_table_is_written_as_markdown_json_and_picture(tmp_path, small, capsys):
    arguments = [
        "--save_dir",
        str(tmp_path),
        "--rows",
        "PaddleSeg-T1",
        "T1",
        "--backend",
        "paddle-native",
        "--formats",
        "paddle",
        "--device",
        "cpu",
        "--warmup",
        "0",
        "--repeats",
        "2",
        "--num_threads",
        "1",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "table2.json").read_text())
    assert [row["key"] for row in result["rows"]] == ["PaddleSeg-T1", "T1"] and result["weights"] == "random"
    assert result["rows"][0]["times_faster"] is None and result["rows"][1]["times_faster"]["median"] > 0
    assert result["rows"][1]["image_size"] == [2048, 1024] and result["rows"][1]["input_shape"] == [1, 3, 32, 64]
    assert result["rows"][1]["accuracy"] == {"miou": 73.1, "reported": True}
    markdown = (tmp_path / "table2.md").read_text()
    for text in (out, markdown):
        assert (
            "73.1 (paper)" in text
            and "Random weights, on which" in text
            and "not measured here" in text
            and "273.6" in text
        )
    assert (tmp_path / "accuracy_speed.png").read_bytes()[:4] == b"\x89PNG"
    baseline = Artifact.read(str(tmp_path / "exports" / "PaddleSeg-T1"))
    assert baseline.output.dtype == "int32" and baseline.preprocess.input_size(1024, 2048) == (32, 64)


def test_a_row_that_cannot_be_measured_leaves_the_others(tmp_path, small, monkeypatch, capsys):
    def broken():
        from ppliteseg_paddle.errors import ConfigError

        raise ConfigError("it cannot be built.")

    monkeypatch.setitem(NETWORKS, "STDC1-Seg50", Network("STDC1-Seg50", (32, 64), broken))
    assert (
        main(
            [
                "--save_dir",
                str(tmp_path),
                "--rows",
                "T1",
                "STDC1-Seg50",
                "--backend",
                "paddle-native",
                "--formats",
                "paddle",
                "--warmup",
                "0",
                "--repeats",
                "1",
            ]
        )
        == 0
    )
    assert "Not measured: STDC1-Seg50: it cannot be built." in capsys.readouterr().out


def test_an_unknown_row_is_told_with_the_near_one(tmp_path, capsys):
    assert main(["--save_dir", str(tmp_path), "--rows", "STDC1-Seg5"]) == 2
    assert "Did you mean 'STDC1-Seg75' or 'STDC1-Seg50'" in capsys.readouterr().err


def test_every_export_of_a_row_holds_the_same_random_weights(tmp_path, small, monkeypatch):
    monkeypatch.setitem(NETWORKS, "PaddleSeg-T1", NETWORKS["PaddleSeg-T1"]._replace(build=lambda: Small(19)))
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        networks.export(Export("PaddleSeg-T1", ("paddle",)), str(folder))
    weights = [folder.joinpath("model.pdiparams").read_bytes() for folder in folders]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_int8_is_ours_alone_and_compared_with_paddlesegs_floats(tmp_path, small, capsys):
    arguments = ["--save_dir", str(tmp_path), "--rows", "PaddleSeg-T1", "T1", "--formats", "onnx", "--device", "cpu"]
    arguments += ["--precision", "fp32", "bf16", "int8", "--warmup", "0", "--repeats", "2", "--num_threads", "1"]
    assert main(arguments) == 0
    result = json.loads((tmp_path / "table2.json").read_text())
    assert [(row["key"], row["precision"], row["against"]) for row in result["rows"]] == [
        ("PaddleSeg-T1", "fp32", None),
        ("T1", "fp32", "PaddleSeg-T1"),
        ("T1", "int8", "PaddleSeg-T1"),
    ]
    assert result["rows"][2]["times_faster"]["median"] > 0
    assert set(result["failures"]) == {"PaddleSeg-T1 on onnxruntime, bf16", "T1 on onnxruntime, bf16"}
    assert "INT8: ours alone" in (tmp_path / "table2.md").read_text() and "bf16" in capsys.readouterr().out
    assert main(arguments) == 0  # with the exports that are there
    assert Artifact.read(str(tmp_path / "exports" / "T1-int8")).precision == "int8"

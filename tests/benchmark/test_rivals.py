"""The comparison with other packages, without them: its report from a recorded result, its commands on a stand-in."""

import json
import os
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ppliteseg_paddle.benchmark.studies import rivals, rivals_report
from ppliteseg_paddle.benchmark.studies.rivals_graphs import Graphs, add_argmax, described, quantise, scenes
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import PPLiteSegError

SIZE = (32, 64)


def row(network, width, form, runtime, ms, cpu=None):
    times = {"ms": {"median_ms": ms}, "cpu_ms": {"median_ms": cpu or 2 * ms}}
    where = {"network": network, "size": [width // 2, width], "form": form, "runtime": runtime}
    return {**where, **times, "load_average": 0.5}


@pytest.fixture
def result():
    rows = [
        row("YOLO26n-sem", 2048, "fp32", "onnxruntime", 450.0),
        row("YOLO26n-sem", 2048, "fp32", "openvino", 400.0),
        row("YOLO26n-sem", 2048, "int8", "openvino", 300.0),
        row("PP-LiteSeg-T", 1536, "fp32", "onnxruntime", 390.0),
        row("PP-LiteSeg-T", 2048, "fp32", "onnxruntime", 700.0),
        row("PP-LiteSeg-B", 1536, "int8", "openvino", 290.0, cpu=700.0),
        row("PP-LiteSeg-B", 1536, "int8-same", "openvino", 280.0, cpu=650.0),
    ]
    machine = {
        "processor": "Tested",
        "cpus": 2,
        "cpus_usable": 2,
        "versions": {"openvino": "1"},
        "time": "2026-01-02T03:04",
    }
    return {"rows": rows, "repeats": 3, "num_threads": 2, "env": {"ultralytics": "8"}, "machine": machine}


def test_of_each_network_size_and_group_the_fastest_counts(result):
    found = {(point.network, point.group): point for point in rivals_report.points(result) if point.size[1] != 2048}
    best = found["PP-LiteSeg-B", "8 bits"]
    assert (best.ms, best.how, best.miou) == (280.0, "int8-same, openvino", 78.75)
    rival = [point for point in rivals_report.points(result) if str(point) == "YOLO26n-sem at 2048x1024"]
    assert [(point.group, point.ms) for point in rival] == [("FP32", 400.0), ("8 bits", 300.0)]


def test_the_report_says_where_the_rival_wins_and_where_ours_win(result):
    lost, won = rivals_report.verdicts(result)
    assert "ours reach 76.0 % (PP-LiteSeg-T at 1536x768, 390 ms): 2.3 points less; the rival wins" in lost
    assert "ours reach 78.8 % (PP-LiteSeg-B at 1536x768, 280 ms): 0.5 points more; ours win" in won
    by_processor_time = rivals_report.verdicts({**result, "clock": "cpu"})
    assert "takes 600 ms" in by_processor_time[1] and "Our networks are all slower." in by_processor_time[1]


def test_table_markdown_and_figure_are_made_of_a_recorded_result(result, tmp_path, capsys):
    (tmp_path / "old.json").write_text(json.dumps(result))
    out = tmp_path / "out"
    assert rivals.main(["--report", str(tmp_path / "old.json"), "--save_dir", str(out)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:5] for line in shown.splitlines()[1:3]] == [
        ["YOLO26n-sem", "2048x1024", "78.3", "450", "400"],
        ["PP-LiteSeg-T", "1536x768", "76.0", "390*", "-"],
    ]
    assert "ultralytics 8" in shown and "2026-01-02" in shown and "load average 0.5" in shown
    text = (out / "rivals.md").read_text("utf-8")
    assert "| YOLO26n-sem | 2048x1024 | 78.3 | 450 | 400 | 300* | - |" in text and "the rival wins" in text
    assert (out / "rivals.png").read_bytes().startswith(b"\x89PNG") and "(rivals.png)" in text
    assert json.loads((out / "rivals.json").read_text())["rows"] == result["rows"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--env", "absent"], "absent has no libreyolo; 'bash scripts/bench_rivals.sh' makes the environment"),
        (["--env", "absent", "--networks", "YOLO26n-sem"], "absent has no ultralytics;"),
        (["--report", "other.json"], "other.json is no result of this command; give its rivals.json."),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    assert rivals.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]
    assert not list(tmp_path.glob("output/**/*.json"))


SIZES = "is not WIDTHxHEIGHT of multiples of 32"


@pytest.mark.parametrize(
    "flag, value, said",
    [*(("--sizes", size, SIZES) for size in ("1024", "1000x512", "axb", "0x0")), ("--repeats", "0", "above 0")],
)
def test_a_size_or_a_number_that_is_not_possible_is_refused(flag, value, said, capsys):
    with pytest.raises(SystemExit) as ended:
        rivals.main(["--env", "absent", flag, value])
    assert ended.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


def network(path, ids):
    """Writes two convolutions from an image to class ids, or to 19 logits."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((8, 3, 3, 3), (19, 8, 1, 1))]
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["logits"], "conv1"),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 19, *SIZE))
    if ids:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["ids"], "ids", axis=1, keepdims=0))
        output = helper.make_tensor_value_info("ids", TensorProto.INT64, (1, *SIZE))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, *SIZE))
    values = [onnx.numpy_helper.from_array(array, f"w{i:d}") for i, array in enumerate(weights)]
    graph = helper.make_graph(nodes, "test", [image], [output], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


def outputs(path, batch):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def test_an_argmax_behind_logits_is_that_of_numpy_and_eight_bits_are_nearly_the_same(tmp_path):
    batch = Preprocess([{"type": "Normalize", "mean": [0.0] * 3, "std": [1.0] * 3}])(scenes(SIZE)[0][0])[0]
    logits = network(tmp_path / "logits.onnx", ids=False)
    add_argmax(logits, str(tmp_path / "ids.onnx"))
    ids = outputs(str(tmp_path / "ids.onnx"), batch)
    assert np.array_equal(ids, outputs(logits, batch).argmax(axis=1)) and len(np.unique(ids)) > 2
    quantise(str(tmp_path / "ids.onnx"), str(tmp_path / "int8.onnx"), SIZE)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert (outputs(str(tmp_path / "int8.onnx"), batch) == ids).mean() > 0.9


def test_a_graph_of_another_size_is_refused(tmp_path):
    path = network(tmp_path / "ids.onnx", ids=True)
    with pytest.raises(PPLiteSegError, match="does not go from one image of 96x32 to class ids"):
        described(path, (32, 96), Preprocess([{"type": "Normalize"}]))


@pytest.fixture
def env(tmp_path):
    """In place of the other packages' environment: a `yolo` that notes its arguments and writes a small network."""
    graph = network(tmp_path / "small.onnx", ids=True)
    program = tmp_path / "env" / "bin" / "yolo"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\necho "$YOLO_OFFLINE $*" >> {tmp_path}/called\n'
        f'case "$*" in *26s*) echo no such model >&2; exit 3 ;; *int8*) suffix=_int8 ;; esac\n'
        f"cp {graph} yolo26n-sem$suffix.onnx\n"
    )
    (program.parent / "python").touch()
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(tmp_path / "env")


def test_the_other_package_exports_by_its_own_command_offline_and_once(env, tmp_path):
    graphs = Graphs(str(tmp_path / "graphs"), env)
    graphs.check(["YOLO26n-sem"])
    for runtime in ("onnxruntime", "openvino"):
        artifact = graphs.artifact("YOLO26n-sem", SIZE, "fp32", runtime)
        backend = open_backend(runtime, artifact, "cpu", 1)
        image = scenes(SIZE)[0][0]
        batch = artifact.preprocess(image)[0]
        # Images go in as that package has them: RGB, 0 to 1.
        np.testing.assert_allclose(batch[0], image[:, :, ::-1].transpose(2, 0, 1) / 255, atol=1e-6)
        assert backend.run(batch).shape == (1, *SIZE)
    graphs.artifact("YOLO26n-sem", SIZE, "int8", "onnxruntime")
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0] == "true export model=yolo26n-sem.yaml format=onnx imgsz=32,64 batch=1 device=cpu"
    assert len(called) == 2 and f"int8=True data={tmp_path}/graphs/scenes/data.yaml" in called[1]
    assert os.listdir(tmp_path / "graphs" / "scenes" / "images" / "val")


def test_a_command_that_fails_is_told_in_one_line(env, tmp_path):
    with pytest.raises(PPLiteSegError) as error:
        Graphs(str(tmp_path / "graphs"), env).artifact("YOLO26s-sem", SIZE, "fp32", "onnxruntime")
    assert "failed (status 3): no such model" in str(error.value) and "\n" not in str(error.value)

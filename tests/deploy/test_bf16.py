"""`--precision bf16`: which runtimes compute in it, how far from float32, and who is refused."""

import json
import shutil

import cv2
import numpy as np
import pytest
from exported import photograph, small_folder
from tiny_onnx import tiny_artifact

from ppliteseg_paddle import Predictor, environment
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy import paddle_inference, runtimes
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ArtifactError, ConfigError

COMPUTES = environment.multiplies_bf16()
NEEDS_BF16 = pytest.mark.skipif(not COMPUTES, reason="this processor multiplies no bfloat16")
# Paddle 3.3's oneDNN does not run resize operators (Paddle issue 77340), so no graph is all in bf16.
PADDLE_COMPUTES = COMPUTES and paddle_version() < (3, 3)
NEEDS_PADDLES = pytest.mark.skipif(
    not PADDLE_COMPUTES, reason="this processor multiplies no bfloat16, or Paddle 3.3 cannot run the graph in it"
)
# Relative error of one rounding to bfloat16: 8 bits of significand.
ROUNDING = 2.0**-9


@pytest.fixture
def with_bf16(monkeypatch):
    """A processor that has it, whatever this one has."""
    monkeypatch.setattr(environment, "multiplies_bf16", lambda: True)


@pytest.mark.parametrize(
    "flags, limit, expected",
    [
        ("avx2 avx512f avx512_bf16", None, True),
        ("avx512f amx_bf16 amx_tile", None, True),
        ("avx2 avx512f avx512_vnni", None, False),
        ("", None, False),
        ("avx512_bf16", "AVX512_CORE_VNNI", False),
        ("avx512_bf16", "avx2", False),
        ("avx512_bf16", "AVX512_CORE_BF16", True),
        ("avx512_bf16 amx_bf16", "avx512_core_amx_fp16", True),
        ("avx2", "AVX512_CORE_BF16", False),
    ],
)
def test_the_processor_and_onednns_variable_say_whether_there_is_bf16(monkeypatch, flags, limit, expected):
    monkeypatch.setattr(environment, "_cpuinfo", lambda: f"flags : fpu {flags}\n")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert environment.multiplies_bf16() is expected


# --------------------------------------------------------------------------------------------
# What is computed
# --------------------------------------------------------------------------------------------
@NEEDS_PADDLES
def test_paddles_scores_are_within_bf16s_rounding_of_float32_and_not_equal():
    folder = small_folder("none")
    image = photograph(96, 128)
    backends = [Predictor(folder, "paddle", precision=precision).backend for precision in ("fp32", "bf16")]
    batch, _ = Artifact.read(folder).preprocess(image)
    exact, rounded = (backend.run(batch) for backend in backends)
    assert [backend.describe().get("precision") for backend in backends] == [None, "bf16"]
    _is_rounding(exact, rounded)


@NEEDS_BF16
def test_openvino_computes_in_bf16_when_it_is_asked(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    artifact = tiny_artifact(tmp_path / "tiny")
    backend = open_backend("openvino", artifact, precision="bf16")
    assert (
        backend.describe()["precision"] == "bf16" and "precision" not in open_backend("openvino", artifact).describe()
    )
    asked = backend._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
    assert asked.get_type_name() == "bf16"


def test_paddle_refuses_a_graph_that_it_cannot_run_in_bf16_as_a_whole(monkeypatch, with_bf16):
    """What is left without the placement pass is slower than float32."""
    folder = small_folder("argmax")

    def create(self, form):
        assert not form.without_passes
        raise RuntimeError("(Unimplemented) no such kernel")

    monkeypatch.setattr(paddle_inference.PaddleBackend, "_create", create)
    words = r"cannot run all of .* in bf16: \(Unimplemented\) no such kernel. Export with --input_shape and"
    with pytest.raises(ArtifactError, match=words):
        Predictor(folder, "paddle", precision="bf16")


def _is_rounding(exact, rounded):
    """Weights, inputs and the layer in between are rounded, sums are not: a handful of roundings of the largest."""
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert ROUNDING / 16 < error < 16 * ROUNDING


# --------------------------------------------------------------------------------------------
# What opens
# --------------------------------------------------------------------------------------------
def test_auto_takes_a_runtime_that_has_bf16_on_the_cpu_even_beside_a_gpu(monkeypatch, with_bf16):
    opened, artifact = [], Artifact.read(small_folder("argmax"))

    class Recorded(Backend):
        name = "recorded"

        def __init__(self, artifact, options):
            opened.append((options.precision, options.device))

    def row(name, precisions, opens=Recorded):
        return runtimes.RuntimeSpec(
            name, name, ("paddle",), ("numpy",), "", opens, precisions, may_use_gpu=lambda: "gpu" in precisions
        )

    def refuse(artifact, options):
        raise AssertionError("a runtime without bf16 was opened")

    rows = (row("without", {"cpu": ("fp32",), "gpu": ("fp32",)}, refuse), row("with", {"cpu": ("fp32", "bf16")}))
    monkeypatch.setattr(runtimes, "RUNTIMES", {each.name: each for each in rows})
    monkeypatch.setattr("ppliteseg_paddle.deploy.backends.RUNTIMES", runtimes.RUNTIMES)
    open_backend("auto", artifact, precision="bf16")
    assert opened == [("bf16", "cpu")]


@pytest.mark.parametrize(
    "backend, device, words",
    [
        ("onnxruntime", None, "the backend 'onnxruntime' has no bf16; it has fp16, fp32, int8"),
        ("paddle-native", None, "the backend 'paddle-native' has no bf16; it has fp32"),
        ("auto", "gpu:0", "--precision bf16 is computed on a CPU, and the device is 'gpu:0': give --device cpu"),
    ],
)
def test_what_has_no_bf16_is_refused(with_bf16, backend, device, words):
    with pytest.raises(ConfigError, match=words):
        Predictor(small_folder("argmax"), backend, device, precision="bf16")


def test_a_processor_without_bf16_is_refused_by_what_it_has(monkeypatch):
    monkeypatch.setattr(environment, "_cpuinfo", lambda: "flags : fpu avx2 fma\n")
    with pytest.raises(ConfigError, match="needs a processor with AVX512_BF16 or AMX, but this one has fma avx2"):
        Predictor(small_folder("argmax"), precision="bf16")
    assert Predictor(small_folder("argmax"), "paddle", precision="fp32").predict(photograph(64, 64)).shape == (64, 64)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_export_in_8_bits_is_not_computed_in_float(tmp_path, with_bf16, precision):
    shutil.copytree(small_folder("argmax"), tmp_path / "export")
    text = (tmp_path / "export" / "deploy.yaml").read_text()
    (tmp_path / "export" / "deploy.yaml").write_text(text.replace("precision: fp32", "precision: int8"))
    with pytest.raises(ConfigError, match=f"--precision {precision} is for float exports, and .* holds one in INT8"):
        Predictor(tmp_path / "export", precision=precision)


def test_on_the_command_line_it_goes_with_an_export(tmp_path, capsys):
    path = str(tmp_path / "photo.png")
    cv2.imwrite(path, photograph(64, 96))
    common = ["--image_path", path, "--save_dir", str(tmp_path / "out"), "--precision", "bf16"]
    assert main(["predict", "--model_path", "camvid-t", *common]) == 2
    assert "--streams and --precision go with --model_dir" in capsys.readouterr().err
    assert main(["benchmark", "--budget_ms", "5", "--precision", "bf16"]) == 2
    assert "--precision is for --model_dir" in capsys.readouterr().err
    if PADDLE_COMPUTES:
        assert main(["predict", "--model_dir", small_folder("argmax"), "--backend", "paddle", *common]) == 0


@NEEDS_PADDLES
def test_the_benchmark_measures_both_in_turns(capsys, tmp_path):
    saved = tmp_path / "result.json"
    argv = ["benchmark", "--model_dir", small_folder("argmax"), "--backend", "paddle", "--precision", "fp32", "bf16"]
    assert main([*argv, "--input_shape", "1", "3", "32", "48", "--repeats", "1", "--save_json", str(saved)]) == 0
    result = json.loads(saved.read_text())
    rows = [result, *result["compared"]]
    assert [(row["name"], row["precision"]) for row in rows] == [("fp32", "fp32"), ("bf16", "bf16")]

import fake_tensorrt
import numpy as np
import pytest
from tiny_onnx import SIZE, tiny_artifact

from ppliteseg_paddle.benchmark.studies import engines, roofline
from ppliteseg_paddle.benchmark.studies.engines import ENGINES, open_engine
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.errors import ConfigError, DependencyError

pytest.importorskip("onnx", reason="comes with the extra 'deploy'")
pytest.importorskip("onnxruntime", reason="comes with the extra 'deploy'")


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-bound", "openvino"])
def test_every_runtime_of_the_cpu_gives_the_same_mask_in_steps(tmp_path, rng, name):
    if name == "openvino":
        pytest.importorskip("openvino", reason="comes with the extra 'deploy'")
    artifact = tiny_artifact(tmp_path / "a")
    batch = rng.standard_normal((1, 3, *SIZE)).astype(np.float32)
    engine = open_engine(name, artifact, "fp32", "cpu", 1)
    steps = []
    mask = engine.backend.run_in_steps(batch, steps.append)
    assert "forward" in steps and np.array_equal(mask, open_backend("onnxruntime", artifact, "cpu").run(batch))
    assert engine.backend.describe()["version"]


def test_bound_tensors_are_copied_in_and_out_apart_from_the_network(tmp_path, rng):
    engine = open_engine("onnxruntime-bound", tiny_artifact(tmp_path / "a", batch=-1), "fp32", "cpu", 1, batch=2)
    steps, batch = [], rng.standard_normal((2, 3, *SIZE)).astype(np.float32)
    first = engine.backend.run_in_steps(batch, steps.append)
    engine.launch()
    assert steps == ["copy_in", "forward", "copy_out"] and first.shape == (2, *SIZE) and not engine.graphed
    assert np.array_equal(engine.backend.run(batch), first) and not np.array_equal(engine.backend.run(-batch), first)


def test_operators_are_listed_slowest_first(tmp_path):
    engine = open_engine("onnxruntime", tiny_artifact(tmp_path / "a"), "fp32", "cpu", 1)
    times = engine.profile(np.zeros((1, 3, *SIZE), np.float32))
    assert any("Conv" in name for name, _ in times) and [value for _, value in times] == sorted(
        (value for _, value in times), reverse=True
    )


@pytest.mark.parametrize(
    "name, precision, device, words",
    [
        ("tensorrt", "fp32", "cpu", "not for the cpu"),
        ("onnxruntime", "fp32", "gpu", "not for the gpu"),
        ("onnxruntime-bound", "fp16", "cpu", "no fp16 on the cpu"),
        ("tensort", "fp32", "gpu", "unknown runtime"),
    ],
)
def test_what_a_runtime_cannot_do_is_told_in_one_line(tmp_path, name, precision, device, words):
    with pytest.raises(ConfigError, match=words):
        open_engine(name, tiny_artifact(tmp_path / "a"), precision, device)


def test_a_runtime_that_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "other", ENGINES["torch"]._replace(packages=("a_package_of_no_name",)))
    with pytest.raises(DependencyError, match="a_package_of_no_name is not installed"):
        open_engine("other", tiny_artifact(tmp_path / "a"), "fp32", "cpu")


def test_what_onnx2torch_gets_computes_the_same_without_what_it_does_not_know(tmp_path, rng):
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from ppliteseg_paddle.benchmark.studies.torch_baseline import for_onnx2torch

    def weight(name, *shape):
        return helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32))
        )

    nodes = [
        weight("w1", 4, 3, 5, 3),
        weight("w2", 5, 4, 2, 2),
        helper.make_node("Conv", ["x", "w1"], ["y"], kernel_shape=[5, 3], auto_pad="SAME_UPPER"),
        helper.make_node("Conv", ["y", "w2"], ["z"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 12])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 5, 5, 6])],
    )
    path = str(tmp_path / "m.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    changed = for_onnx2torch(path)
    onnx.checker.check_model(changed, full_check=True)
    first, second = changed.graph.node
    assert {a.name: list(a.ints) for a in first.attribute} == {"kernel_shape": [5, 3], "pads": [2, 1, 2, 1]}
    assert "auto_pad" in {a.name for a in second.attribute}  # with strides the padding depends on the input's size
    assert [i.name for i in changed.graph.initializer] == ["w1", "w2"]
    x = rng.standard_normal((1, 3, 9, 12)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (path, changed.SerializeToString())
    )
    assert np.array_equal(before, after)


# --------------------------------------------------------------------------------------------
# TensorRT, on stand-ins
# --------------------------------------------------------------------------------------------
@pytest.fixture
def tensorrt(monkeypatch):
    """TensorRT 10.13 and a GPU whose driver notes what is recorded and replayed."""

    class Driver(fake_tensorrt.FakeDriver):
        def __init__(self):
            super().__init__()
            self.calls, self.refuses = [], False

        def cuStreamBeginCapture_v2(self, stream, mode):
            self.calls.append("begin")
            return 901 if self.refuses else 0

        def cuStreamEndCapture(self, stream, graph):
            self.calls.append("end")
            graph._obj.value = 5
            return 0

        def cuGraphInstantiateWithFlags(self, executable, graph, flags):
            assert graph.value == 5
            executable._obj.value = 6
            return 0

        def cuGraphLaunch(self, executable, stream):
            assert executable.value == 6
            self.calls.append("replay")
            return 0

    return lambda rtx=False: fake_tensorrt.install(monkeypatch, Driver(), rtx=rtx)


def test_tensorrt_is_recorded_as_a_cuda_graph_and_replayed(tmp_path, tensorrt, rng):
    _, driver = tensorrt()
    engine = open_engine("tensorrt", tiny_artifact(tmp_path / "a"), "fp32", "gpu")
    engine.launch()
    assert engine.graphed and driver.calls == ["begin", "end", "replay"]
    batch = rng.standard_normal((1, 3, *SIZE)).astype(np.float32)
    assert np.array_equal(engine.backend.run(batch), batch.argmax(axis=1))


def test_a_graph_that_cannot_be_recorded_is_launched_kernel_by_kernel(tmp_path, tensorrt):
    _, driver = tensorrt()
    driver.refuses = True
    engine = open_engine("tensorrt", tiny_artifact(tmp_path / "a"), "fp32", "gpu")
    engine.launch()
    assert not engine.graphed and "replay" not in driver.calls


@pytest.mark.parametrize("precision, cleared", [("fp32", True), ("tf32", False)])
def test_tf32_is_off_unless_it_is_asked_for(tmp_path, tensorrt, precision, cleared):
    module, _ = tensorrt()
    open_engine("tensorrt", tiny_artifact(tmp_path / "a"), precision, "gpu")
    assert (("clear_flag", "TF32") in module.calls) == cleared


def test_tensorrt_for_rtx_is_a_runtime_of_its_own(tmp_path, tensorrt):
    tensorrt(rtx=True)
    artifact = tiny_artifact(tmp_path / "a")
    assert open_engine("tensorrt-rtx", artifact, "fp32", "gpu").backend.name == "tensorrt-rtx"
    with pytest.raises(DependencyError):
        open_engine("tensorrt", artifact, "fp32", "gpu")


def test_an_engine_of_an_open_batch_is_built_for_that_batch(tmp_path, tensorrt):
    module, _ = tensorrt()
    open_engine("tensorrt", tiny_artifact(tmp_path / "a", batch=-1), "fp32", "gpu", batch=4)
    assert [arguments[1:] for name, arguments in module.calls if name == "set_shape"] == [((4, 3, *SIZE),) * 3]


# --------------------------------------------------------------------------------------------
# Roofline
# --------------------------------------------------------------------------------------------
def test_multiply_adds_and_numbers_are_counted_from_the_graph(tmp_path):
    counted = roofline.count(tiny_artifact(tmp_path / "a").path_of("onnx", "model"))
    pixels = SIZE[0] * SIZE[1]
    # the convolution reads 3 planes and its weights and writes 19; argmax reads 19 and writes one
    assert counted == {"macs": pixels * 19 * 27, "numbers": pixels * (3 + 19 + 19 + 1) + 19 * 27}


@pytest.mark.parametrize(
    "make, per_call", [(roofline.arithmetic, 2 * 1024**2 * 32**2), (roofline.memory, 2 * 4 * 4 * 2048**2)]
)
def test_ceilings_are_measured_with_graphs_that_run(tmp_path, make, per_call):
    artifact, amount = make(str(tmp_path), "fp32", False)
    assert amount == per_call
    result = engines.open_engine("onnxruntime", artifact, "fp32", "cpu", 2).backend.run(
        np.ones(artifact.input.shape, np.float32)
    )
    assert result.shape == artifact.input.shape


def test_the_int8_ceiling_is_a_graph_of_8_bit_convolutions(tmp_path):
    artifact, _ = roofline.arithmetic(str(tmp_path), "int8", False)
    import onnx

    nodes = onnx.load(artifact.path_of("onnx", "model")).graph.node
    assert [node.op_type for node in nodes].count("QuantizeLinear") == 2
    assert (
        engines.open_engine("onnxruntime", artifact, "int8", "cpu", 2)
        .backend.run(np.ones(artifact.input.shape, np.float32))
        .any()
    )


def test_the_distance_is_to_the_larger_bound():
    found = roofline.bounds(
        {"macs": 10**9, "numbers": 10**8}, {"macs_per_second": 1e12, "bytes_per_second": 1e11}, "fp32", 2, 40.0
    )
    assert found == {"compute_ms": 2.0, "memory_ms": 8.0, "distance": 5.0}

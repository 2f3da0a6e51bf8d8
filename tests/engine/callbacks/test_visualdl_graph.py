"""The model's graph for VisualDL."""

import paddle
import pytest

from ppliteseg_paddle.engine.callbacks.visualdl_graph import model_graph


class Block(paddle.nn.Layer):
    def __init__(self, channels):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, channels, 3, padding=1)
        self.norm = paddle.nn.BatchNorm2D(channels)

    def forward(self, x):
        return paddle.nn.functional.relu(self.norm(self.conv(x)))


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.blocks = paddle.nn.LayerList([Block(4), Block(4)])

    def forward(self, x):
        joined = paddle.concat([block(x) for block in self.blocks], axis=1)
        return paddle.nn.functional.interpolate(joined, size=[16, 24], mode="bilinear")


@pytest.fixture(scope="module")
def net():
    return Net()


@pytest.fixture(scope="module")
def graph(net):
    return model_graph(net, [1, 3, 8, 12])


def operators(graph, kind):
    return [node for node in graph["nodes"] if node["is_leaf_node"] and node["type"] == kind]


def test_operators_stand_inside_their_layers(graph):
    convolutions = operators(graph, "conv2d")
    assert [node["name"].count("Block[") for node in convolutions] == [1, 1]
    assert {node["parent_node"].split("/")[1] for node in convolutions} == {"Net[model]"}
    assert all(node["parent_node"].endswith("/Conv2D[conv]") for node in convolutions)
    assert [node["type"] for node in graph["nodes"] if node["name"].endswith("Block[0]")] == ["Block"]


def test_operators_are_joined_by_what_flows_between_them(graph):
    (concat,) = operators(graph, "concat")
    assert sorted(name.rsplit("/", 1)[1].rsplit("_", 1)[0] for name in concat["input_nodes"]) == ["relu", "relu"]
    shapes = [
        variable["shape"] for variable in graph["vars"] if variable["name"] in sum(concat["output_vars"].values(), [])
    ]
    assert shapes == [[1, 8, 8, 12]]


def test_weights_are_no_operators_and_keep_their_names(graph, net):
    assert not [node for node in graph["nodes"] if "parameter" in node["type"]]
    weights = {
        variable["name"]: variable["shape"]
        for variable in graph["vars"]
        if variable["persistable"] and variable["shape"]
    }
    for parameter in net.parameters():
        assert [shape for name, shape in weights.items() if name.startswith(parameter.name)] == [parameter.shape]


def test_visualdls_reader_opens_it(graph, tmp_path):
    import json

    from visualdl.reader.graph_reader import GraphReader

    (tmp_path / "vdlgraph.1.log").write_text(json.dumps(graph))
    reader = GraphReader(str(tmp_path))
    (run,) = reader.runs()
    shown = reader.get_graph(run)
    assert "Net[model]" in str(shown)


def test_the_model_trains_on_as_before(net):
    names = [parameter.name for parameter in net.parameters()]
    net.train()
    model_graph(net, [1, 3, 8, 12])
    assert net.training and [parameter.name for parameter in net.parameters()] == names and not net._forward_pre_hooks
    assert net(paddle.ones([2, 3, 8, 12])).shape == [2, 8, 16, 24]

"""Fixes of the installed PaddleSeg and Paddle."""

import io

import numpy as np
import paddle
import pytest

from ppliteseg_paddle import compat


def count_by_class(pred, label, num_classes, ignore_index=255):
    """PaddleSeg 2.9.1's way, in short: it runs."""
    known = label != ignore_index
    rows = [
        (((pred == c) & (label == c)).sum(), ((pred == c) & known).sum(), (label == c).sum())
        for c in range(num_classes)
    ]
    return tuple(paddle.stack([row[k] for row in rows]) for k in range(3))


def fails(pred, label, num_classes, ignore_index=255):
    raise ValueError("concat: The rank of the input must be greater than 0")


@pytest.mark.parametrize("theirs, replaced", [(fails, True), (count_by_class, False)])
def test_paddlesegs_count_of_areas_is_replaced_only_where_it_fails(monkeypatch, theirs, replaced):
    from paddleseg.utils import metrics

    monkeypatch.setattr(metrics, "calculate_area", theirs)
    compat.apply_paddleseg_fixes()
    assert metrics.calculate_area is (compat.calculate_area if replaced else theirs)


def test_after_registration_paddleseg_counts_areas_with_the_installed_paddle():
    import ppliteseg_paddle

    ppliteseg_paddle.register()
    from paddleseg.utils import metrics

    pred, label = paddle.to_tensor(np.array([[[0, 1, 1]]])), paddle.to_tensor(np.array([[[0, 1, 255]]]))
    assert [area.tolist() for area in metrics.calculate_area(pred, label, 2)] == [[1, 1], [1, 1], [1, 1]]


def test_areas_equal_a_count_class_by_class(rng):
    pred = rng.integers(0, 6, (2, 1, 20, 30)).astype(np.int32)  # 5 is no class here
    label = rng.integers(0, 5, (2, 1, 20, 30))
    label[rng.random(label.shape) < 0.2] = 255
    label[rng.random(label.shape) < 0.05] = 77  # neither a class nor ignored
    known = label != 255
    expected = [
        [int(((pred == c) & (label == c)).sum()) for c in range(5)],
        [int(((pred == c) & known).sum()) for c in range(5)],
        [int((label == c).sum()) for c in range(5)],
    ]
    found = compat.calculate_area(paddle.to_tensor(pred), paddle.to_tensor(label), 5, 255)
    assert [area.tolist() for area in found] == expected
    assert all(area.dtype == paddle.int64 for area in found)


def test_areas_of_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape, but are \[1, 2, 2\] and \[1, 2, 3\]"):
        compat.calculate_area(paddle.zeros([1, 2, 2], "int32"), paddle.zeros([1, 2, 3], "int64"), 2)


def test_a_script_that_optimizes_memory_runs_the_graph_that_the_installed_paddle_writes(monkeypatch, tmp_path):
    from paddle import inference

    monkeypatch.setattr(
        inference.Config, "enable_memory_optim", inference.Config.enable_memory_optim
    )  # as it was, after
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Upsample(scale_factor=2, mode="bilinear"))
    net.eval()
    paddle.jit.save(net, str(tmp_path / "g"), [paddle.static.InputSpec([1, 3, 8, 8], "float32", "x")])
    graph = next(path for path in tmp_path.iterdir() if path.suffix in (".json", ".pdmodel"))
    compat.apply_inference_fixes()
    compat.apply_inference_fixes()  # changes nothing
    config = inference.Config(str(graph), str(tmp_path / "g.pdiparams"))
    config.disable_glog_info()
    config.enable_memory_optim()
    session = inference.create_predictor(config)
    image = np.random.default_rng(3).random((1, 3, 8, 8), np.float32)
    session.get_input_handle(session.get_input_names()[0]).copy_from_cpu(image)
    session.run()
    found = session.get_output_handle(session.get_output_names()[0]).copy_to_cpu()
    np.testing.assert_allclose(found, net(paddle.to_tensor(image)).numpy(), atol=1e-5)


def test_one_elongated_image_does_not_change_the_size_of_the_next_one():
    from paddleseg.transforms import Resize, ResizeByShort

    def sizes(built):
        samples = [{"img": np.zeros(shape + (3,), np.float32), "trans_info": []} for shape in ((100, 400), (300, 300))]
        return [built(sample)["img"].shape[:2] for sample in samples]

    fixed = compat.fixed_transform(ResizeByShort)
    assert fixed is compat.fixed_transform(ResizeByShort) and fixed.__name__ == "ResizeByShort"
    assert sizes(fixed(short_size=300, max_size=350)) == [(87, 348), (300, 300)]
    assert sizes(ResizeByShort(short_size=300, max_size=350)) == [(87, 348), (87, 87)]  # PaddleSeg's own
    assert compat.fixed_transform(Resize) is Resize


def test_the_builder_takes_the_transform_that_keeps_its_size(tmp_path):
    from tiny_data import make_data, values, write_config

    from ppliteseg_paddle.engine import build

    root = make_data(tmp_path / "data")
    content = values(root)
    content["val_dataset"]["transforms"] = [{"type": "ResizeByShort", "short_size": 48, "max_size": 80}]
    config = build.load_config(write_config(root / "c.yml", content))
    [transform] = build.build_val_dataset(config).transforms.transforms
    transform({"img": np.zeros((20, 400, 3), np.float32), "trans_info": []})
    assert transform.short_size == 48


@pytest.mark.parametrize(
    "encoding, name", [("utf-8", "天空 ñ"), ("latin-1", "\\u5929\\u7a7a ñ"), ("ascii", "\\u5929\\u7a7a \\xf1")]
)
def test_names_of_other_scripts_are_legible_in_the_log_or_escaped(monkeypatch, encoding, name):
    from paddleseg.utils import logger

    compat.apply_paddleseg_fixes()
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding))
    logger.info("[EVAL] Class IoU: 天空 ñ")
    assert raw.getvalue().decode(encoding).endswith(f" [INFO]\t[EVAL] Class IoU: {name}\n")
    monkeypatch.setattr(logger, "log_level", 1)
    logger.info("not said")
    assert b"not said" not in raw.getvalue()

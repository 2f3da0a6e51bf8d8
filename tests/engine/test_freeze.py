"""Frozen parts: nothing of them changes, nothing is computed for them, and the rest trains."""

import numpy as np
import paddle
import pytest
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.freeze import freeze
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.pp_liteseg import pp_liteseg_t


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("freeze") / "data", train=4, val=2)


def loaded(path):
    return paddle.load(str(path), return_numpy=True)


def test_after_a_training_with_everything_on_the_frozen_state_is_that_of_before(data, tmp_path, capsys):
    content = values(data, model=TINY_MODEL, precise_bn=4, ema_decay=0.9, freeze=["backbone", "neck"])
    content["optimizer"]["custom_cfg"] = [{"name": "backbone", "lr_mult": 0.1}, {"name": "head", "lr_mult": 2}]
    config = load_config(write_config(tmp_path / "c.yml", content), iters=2)
    before = {}
    build_parts = trainer.build_parts

    def seen(*args, **kwargs):
        parts = build_parts(*args, **kwargs)
        before.update({name: value.numpy() for name, value in parts.model.state_dict().items()})
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_parts", seen)
        trainer.train(config, save_dir=str(tmp_path / "o"), use_ema=True, do_eval=True, device="cpu")
    frozen = [name for name in before if name.startswith(("backbone.", "neck."))]
    for file in ("model.pdparams", "ema_model.pdparams"):
        after = loaded(tmp_path / "o" / "iter_2" / file)
        assert [name for name in frozen if after[name].tobytes() != before[name].tobytes()] == []
        changed = [name for name in after if name not in frozen and after[name].tobytes() != before[name].tobytes()]
        assert "seg_heads.0.conv.conv.weight" in changed or len(changed) > 20
    optimizer = loaded(tmp_path / "o" / "iter_2" / "model.pdopt")
    assert 0 < sum("velocity" in name for name in optimizer) < len(before) - len(frozen)
    out = capsys.readouterr().out
    assert "frozen: backbone, neck: " in out and " parameters (" in out and "batch norms" in out


def test_no_gradient_is_computed_below_a_frozen_beginning_and_one_flows_through_a_frozen_middle():
    for parts, flows in ((["backbone"], False), (["backbone.stages.3"], True)):
        model = pp_liteseg_t(num_classes=2)
        freeze(model, parts, "c.yml: freeze")
        model.train()
        features = model.backbone(paddle.rand([2, 3, 64, 64]))
        assert [feature.stop_gradient for feature in features[-3:]] == [not flows] * 3
        model(paddle.rand([2, 3, 64, 64]))[0].mean().backward()
        first = next(iter(model.backbone.parameters()))
        assert (first.grad is not None) == flows
        still = model.backbone.stages[3] if flows else model.backbone
        assert all(weight.grad is None for weight in still.parameters())


def test_frozen_dropout_does_not_draw_and_a_copy_is_frozen_too():
    import copy

    model = paddle.nn.Sequential(("still", paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.Dropout(0.5))))
    model.add_sublayer("last", paddle.nn.Linear(8, 2))
    freeze(model, ["still"], "c.yml: freeze")
    for layer in (model, copy.deepcopy(model)):
        layer.train()
        x = paddle.ones([1, 8])
        assert layer(x).numpy().tolist() == layer(x).numpy().tolist()
        assert layer.training and layer.last.training


def test_statistics_that_never_change_are_not_averaged_over_ranks():
    model = paddle.nn.Sequential(("a", paddle.nn.BatchNorm2D(2)), ("b", paddle.nn.BatchNorm2D(3)))
    freeze(model, ["a"], "c.yml: freeze")
    assert [list(tensor.shape) for tensor in distributed.statistics_of(model)] == [[3], [3]]


@pytest.mark.parametrize(
    "parts, expected",
    [
        (["bakbone"], "c.yml: freeze: the model has no part 'bakbone'. Did you mean 'backbone'"),
        (["decoder"], "the model has no part 'decoder'. Its parts: backbone, backbone.stages,"),
        (["backbone.x"], "the model has no part 'backbone.x'."),
        (["backbone", "neck", "head", "seg_heads"], "leaves nothing to train"),
    ],
)
def test_names_that_cannot_be_frozen_are_refused(parts, expected):
    with pytest.raises(ConfigError, match=expected):
        freeze(pp_liteseg_t(num_classes=2), parts, "c.yml: freeze")


def test_a_group_whose_weights_are_all_in_groups_before_it_is_refused(data, tmp_path):
    content = values(data, model=TINY_MODEL)
    content["optimizer"]["custom_cfg"] = [{"name": "head", "lr_mult": 2}, {"name": "seg_heads", "lr_mult": 3}]
    with pytest.raises(ConfigError, match="the items before 'seg_heads' mean all of its weights: move it to the front"):
        trainer.train(
            load_config(write_config(tmp_path / "c.yml", content)), save_dir=str(tmp_path / "o"), device="cpu"
        )


def test_fine_tuning_is_flags_only(data, tmp_path):
    from ppliteseg_paddle.cli.main import main

    config = write_config(tmp_path / "c.yml", values(data, model=TINY_MODEL))
    first = ["train", "--config", config, "--iters", "1", "--device", "cpu", "--batch_size", "2"]
    assert main([*first, "--save_dir", str(tmp_path / "a")]) == 0
    weights = str(tmp_path / "a" / "iter_1" / "model.pdparams")
    flags = [
        "--model_path",
        weights,
        "--freeze",
        "backbone",
        "--lr_mult",
        "seg_heads=10",
        "head=2",
        "--accumulate",
        "2",
    ]
    assert main([*first, "--save_dir", str(tmp_path / "b"), *flags]) == 0
    content = load_config(str(tmp_path / "b" / "config.yml")).dic
    assert content["freeze"] == ["backbone"] and content["gradient_accumulation_steps"] == 2
    assert [item["lr_mult"] for item in content["optimizer"]["custom_cfg"]] == [10.0, 2.0]
    before, after = loaded(weights), loaded(tmp_path / "b" / "iter_1" / "model.pdparams")
    name = "backbone.convs.0.conv.weight"
    np.testing.assert_array_equal(before[name], after[name])

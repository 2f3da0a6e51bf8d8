import pickle

import numpy as np
import paddle
import pytest
from reference import paddleseg_model, randomise, state_of

from ppliteseg_paddle import PPLiteSegNet, load_weights, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.stdc import STDCNet813, STDCNet1446
from ppliteseg_paddle.models.uafm import PADDLESEG_ARM_TYPES
from ppliteseg_paddle.weights.load import from_paddleseg
from ppliteseg_paddle.weights.write import write_state_dict


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One of our models with uneven weights, and its file."""
    paddle.seed(1)
    model = pp_liteseg_t(num_classes=3)
    randomise(model)
    path = str(tmp_path_factory.mktemp("weights") / "model.pdparams")
    paddle.save(model.state_dict(), path)
    return model, path


def test_our_own_file_loads_completely(saved):
    model, path = saved
    other = pp_liteseg_t(num_classes=3)
    report = load_weights(other, path, strict=True)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), model.state_dict()[name].numpy())


def test_safetensors_loads_too(saved, tmp_path):
    from safetensors.numpy import save_file

    model, _ = saved
    path = str(tmp_path / "model.safetensors")
    save_file(state_of(model), path)
    other = pp_liteseg_t(num_classes=3)
    load_weights(other, path, strict=True)
    np.testing.assert_array_equal(
        other.seg_heads[0].classifier.weight.numpy(), model.seg_heads[0].classifier.weight.numpy()
    )


def assert_close(found, expected):
    found, expected = found.numpy(), expected.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("preset, arm_type", [("T", arm) for arm in PADDLESEG_ARM_TYPES] + [("B", "UAFM_SpAtten")])
def test_a_file_of_paddlesegs_model_loads_completely_and_all_outputs_are_equal(preset, arm_type, tmp_path, by_paddle):
    theirs = paddleseg_model(preset, num_classes=3, arm_type=arm_type)
    path = str(tmp_path / "model.pdparams")
    paddle.save(theirs.state_dict(), path)
    ours = {"T": pp_liteseg_t, "B": pp_liteseg_b}[preset](num_classes=3, fusion=PADDLESEG_ARM_TYPES[arm_type])
    report = load_weights(ours, path, strict=True)
    assert report.complete and report.source == "PaddleSeg's PPLiteSeg"
    image = paddle.randn([2, 3, 90, 122])
    for mode, outputs in (("eval", 1), ("train", 3)):
        getattr(theirs, mode)(), getattr(ours, mode)()
        expected, found = theirs(image), by_paddle(ours, image)
        assert len(expected) == len(found) == outputs
        for a, b in zip(expected, found):
            assert_close(b, a)


@pytest.mark.parametrize("preset", ["T", "B"])
def test_a_file_of_paddlesegs_backbone_loads_into_a_backbone_and_into_a_whole_model(preset, tmp_path):
    import paddleseg.models

    theirs_class, ours_class, build = {
        "T": (paddleseg.models.STDC1, STDCNet813, pp_liteseg_t),
        "B": (paddleseg.models.STDC2, STDCNet1446, pp_liteseg_b),
    }[preset]
    theirs = theirs_class()
    randomise(theirs)
    path = str(tmp_path / "backbone.pdparams")
    paddle.save(theirs.state_dict(), path)
    alone = ours_class(pretrained=path)
    whole = build(num_classes=2)
    report = load_weights(whole, path)
    assert report.source == "PaddleSeg's STDC backbone, backbone only" and len(report.loaded) == len(alone.state_dict())
    image = paddle.randn([1, 3, 64, 64])
    for model in (theirs, alone, whole):
        model.eval()
    for expected, a, b in zip(theirs(image), alone(image), whole.backbone(image)):
        assert_close(a, expected), assert_close(b, expected)


@pytest.mark.slow
def test_our_file_and_its_own_load_into_paddlesegs_model(saved, tmp_path):
    own = paddleseg_model("T", 3)
    paddle.save(own.state_dict(), str(tmp_path / "own.pdparams"))
    for path in (str(tmp_path / "own.pdparams"), saved[1]):
        other = paddleseg_model("T", 3)
        assert load_weights(other, path, strict=True).complete
        expected = own if "own" in path else saved[0]
        for each in (other, expected):
            each.eval()
        x = paddle.randn([1, 3, 64, 96])
        assert_close(other(x)[0], expected(x)[0])


def test_a_file_for_a_wider_head_does_not_fit_and_names_the_shapes(saved):
    state = {**state_of(saved[0]), "head.fusions.0.conv_out.conv.weight": np.zeros((64, 64, 3, 3), np.float32)}
    path = saved[1].replace("model", "wider")
    write_state_dict(path, state)
    with pytest.raises(
        WeightsError, match=r"conv_out\.conv\.weight has shape \[64, 64, 3, 3\], expected \[32, 64, 3, 3\]"
    ):
        load_weights(pp_liteseg_t(num_classes=3), path)


def test_the_backbone_of_one_model_does_not_fit_the_other(tmp_path):
    """STDC2 has all arrays of STDC1, in the same shapes: only what is left over tells."""
    large, small = str(tmp_path / "stdc2.pdparams"), str(tmp_path / "stdc1.pdparams")
    paddle.save(STDCNet1446().state_dict(), large)
    paddle.save(STDCNet813().state_dict(), small)
    for model in (STDCNet813(), pp_liteseg_t(num_classes=2)):
        with pytest.raises(
            WeightsError, match=r"its backbone is STDC2 \(4, 5, 3 blocks\), the model's is STDC1 \(2, 2, 2 blocks\)"
        ):
            load_weights(model, large)
    for model in (STDCNet1446(), pp_liteseg_b(num_classes=2)):
        with pytest.raises(WeightsError, match=r"its backbone is STDC1 .*, the model's is STDC2"):
            load_weights(model, small)


def two_fusions(num_classes):
    return PPLiteSegNet(
        num_classes, STDCNet813(), SPPM(1024), FLDHead([256, 512], 128, [32, 64]), [32, 64], backbone_indices=[2, 3, 4]
    )


def test_a_file_of_three_fusions_may_start_a_model_of_two_but_not_stand_for_it(saved):
    report = load_weights(two_fusions(3), saved[1])
    assert report.missing == [] and "head.fusions.2.conv_skip.conv.weight" in report.unexpected
    with pytest.raises(
        WeightsError,
        match=r"belongs to a model of another form: head\.fusions\.2\.conv_skip\.conv\.weight, .* are in the file",
    ):
        load_weights(two_fusions(3), saved[1], strict=True)


def test_what_was_not_loaded_is_logged_by_name(saved, tmp_path, caplog):
    load_weights(pp_liteseg_t(num_classes=5), saved[1])
    assert "the classifiers start anew" in caplog.text
    caplog.clear()
    state = {**state_of(saved[0]), "extra.weight": np.zeros(1, np.float32)}
    write_state_dict(str(tmp_path / "more.safetensors"), state)
    load_weights(pp_liteseg_t(num_classes=3), str(tmp_path / "more.safetensors"))
    assert "in the file only: extra.weight" in caplog.text
    caplog.clear()
    load_weights(pp_liteseg_t(num_classes=3), saved[1])
    assert caplog.text == ""


def test_what_lacks_is_named(saved, tmp_path):
    state = {name: array for name, array in state_of(saved[0]).items() if not name.startswith("neck.conv_out.bn.")}
    write_state_dict(str(tmp_path / "less.pdparams"), state)
    with pytest.raises(
        WeightsError, match=r"lacks 4 of the model's arrays: neck\.conv_out\.bn\.weight, neck\.conv_out\.bn\.bias"
    ):
        load_weights(pp_liteseg_t(num_classes=3), str(tmp_path / "less.pdparams"))


def test_another_number_of_classes_keeps_all_but_the_classifiers(saved):
    model, path = saved
    other = pp_liteseg_t(num_classes=5)
    report = load_weights(other, path)
    assert [name for name, _, _ in report.mismatched] == [f"seg_heads.{i:d}.classifier.weight" for i in range(3)]
    assert "; the classifiers start anew, for 5 classes in place of the file's 3, and are learned" in str(report)
    np.testing.assert_array_equal(other.neck.convs[0].conv.weight.numpy(), model.neck.convs[0].conv.weight.numpy())


def test_where_all_must_fit_another_number_of_classes_is_refused(saved):
    with pytest.raises(
        WeightsError, match=r"seg_heads\.0\.classifier\.weight has shape \[3, 32, 1, 1\], expected \[5, 32, 1, 1\]"
    ):
        load_weights(pp_liteseg_t(num_classes=5), saved[1], strict=True)


def test_a_file_of_the_larger_model_does_not_fit_the_smaller_and_changes_nothing(tmp_path):
    path = str(tmp_path / "b.pdparams")
    paddle.save(paddleseg_model("B", 3).state_dict(), path)
    model = pp_liteseg_t(num_classes=3)
    before = state_of(model)
    with pytest.raises(WeightsError, match="does not fit the model: its backbone is STDC2"):
        load_weights(model, path)
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, before[name])


class RunsACommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(tmp_path):
    witness, path = tmp_path / "witness", tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps({"a": RunsACommand(str(witness))}))
    with pytest.raises(WeightsError, match=r"asks for '(io|_io)\.open', which arrays do not need"):
        load_weights(pp_liteseg_t(num_classes=2), str(path))
    assert not witness.exists()


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "is empty"),
        (b"not a pickle at all", "cannot be read as .pdparams"),
        (pickle.dumps([1, 2]), "holds a list, not names and arrays"),
        (pickle.dumps({"a": 1}), "holds no arrays"),
        (pickle.dumps({"a": np.zeros(3)}), r"has none of the model's arrays \(it has a, ...\)"),
    ],
)
def test_a_file_that_is_no_weight_file_is_told_apart(tmp_path, content, text):
    path = tmp_path / "model.pdparams"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        load_weights(pp_liteseg_t(num_classes=2), str(path))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(pp_liteseg_t(num_classes=2), str(tmp_path / "none.pdparams"))
    (tmp_path / "iter_4").mkdir()
    with pytest.raises(WeightsError, match=r"is a folder without a weight file \(.pdparams, .safetensors, "):
        load_weights(pp_liteseg_t(num_classes=2), str(tmp_path))


@pytest.mark.parametrize(
    "names, said",
    [
        (["w/a.pth", "w/b.pdopt"], "w/a.pth"),
        (["iter_9/model.pdparams", "iter_12/model.pdparams", "iter_12/model.pdopt"], "iter_12/model.pdparams"),
        (["iter_12/model.pdparams", "best_model/model.pdparams"], "best_model/model.pdparams"),
    ],
)
def test_the_message_for_a_folder_names_a_file_that_is_in_it(tmp_path, names, said):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError) as error:
        load_weights(pp_liteseg_t(num_classes=2), str(tmp_path))
    assert str(error.value) == f"{tmp_path} is a folder; give a file in it, such as {tmp_path / said}."


def test_a_file_cut_short_is_refused(saved, tmp_path):
    path = tmp_path / "cut.pdparams"
    with open(saved[1], "rb") as file:
        path.write_bytes(file.read()[:10000])
    with pytest.raises(WeightsError, match="cannot be read as .pdparams"):
        load_weights(pp_liteseg_t(num_classes=3), str(path))


def test_a_frozen_scale_other_than_one_is_refused():
    state = state_of(paddleseg_model("T", 2))
    name = next(name for name in state if name.endswith("_scale"))
    state[name] = state[name] * 0.5
    with pytest.raises(WeightsError, match=r"_scale is \[0\.5\]; PaddleSeg freezes it at 1"):
        from_paddleseg(state)

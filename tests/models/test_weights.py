import pickle

import numpy as np
import paddle
import pytest
from reference import paddleseg_model, randomise, state_of

from ppliteseg_paddle import load_weights, pp_liteseg_t
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models.stdc import STDCNet813
from ppliteseg_paddle.models.weights import from_paddleseg


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of ours with uneven weights, and its file."""
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
    np.testing.assert_array_equal(other.seg_heads[0].classifier.weight.numpy(), model.seg_heads[0].classifier.weight.numpy())


def test_a_file_of_paddlesegs_model_loads_completely(tmp_path):
    theirs = paddleseg_model("T", num_classes=3)
    path = str(tmp_path / "model.pdparams")
    paddle.save(theirs.state_dict(), path)
    ours = pp_liteseg_t(num_classes=3)
    report = load_weights(ours, path, strict=True)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    theirs.eval(), ours.eval()
    image = paddle.randn([1, 3, 64, 64])
    np.testing.assert_allclose(ours(image)[0].numpy(), theirs(image)[0].numpy(), rtol=1e-4, atol=1e-4)


def test_a_file_of_paddlesegs_backbone_loads_into_a_backbone_and_into_a_whole_model(tmp_path):
    from paddleseg.models import STDC1
    theirs = STDC1()
    randomise(theirs)
    path = str(tmp_path / "backbone.pdparams")
    paddle.save(theirs.state_dict(), path)
    alone = STDCNet813(pretrained=path)
    whole = pp_liteseg_t(num_classes=2)
    report = load_weights(whole, path)
    assert report.source == "PaddleSeg's STDC backbone, backbone only" and len(report.loaded) == len(alone.state_dict())
    image = paddle.randn([1, 3, 64, 64])
    for model in (theirs, alone, whole):
        model.eval()
    for expected, a, b in zip(theirs(image), alone(image), whole.backbone(image)):
        np.testing.assert_allclose(a.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(b.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_another_number_of_classes_keeps_all_but_the_classifiers(saved):
    model, path = saved
    other = pp_liteseg_t(num_classes=5)
    report = load_weights(other, path)
    assert [name for name, _, _ in report.mismatched] == ["seg_heads.%d.classifier.weight" % i for i in range(3)]
    assert "the file has another number of classes: seg_heads.0.classifier.weight (file [3, 32, 1, 1], model [5, 32, 1, 1])" in str(report)
    np.testing.assert_array_equal(other.neck.convs[0].conv.weight.numpy(), model.neck.convs[0].conv.weight.numpy())


def test_where_all_must_fit_another_number_of_classes_is_refused(saved):
    with pytest.raises(WeightsError, match=r"seg_heads\.0\.classifier\.weight has shape \[3, 32, 1, 1\], expected \[5, 32, 1, 1\]"):
        load_weights(pp_liteseg_t(num_classes=5), saved[1], strict=True)


def test_a_file_of_the_larger_model_does_not_fit_the_smaller_and_changes_nothing(tmp_path):
    path = str(tmp_path / "b.pdparams")
    paddle.save(paddleseg_model("B", 3).state_dict(), path)
    model = pp_liteseg_t(num_classes=3)
    before = state_of(model)
    with pytest.raises(WeightsError, match="does not fit the model: .* has shape"):
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


@pytest.mark.parametrize("content, text", [
    (b"", "is empty"), (b"not a pickle at all", "cannot be read as .pdparams"),
    (pickle.dumps([1, 2]), "holds a list, not names and arrays"), (pickle.dumps({"a": 1}), "holds no arrays"),
    (pickle.dumps({"a": np.zeros(3)}), r"has none of the model's arrays \(it has a, ...\)")])
def test_a_file_that_is_no_weight_file_is_told_apart(tmp_path, content, text):
    path = tmp_path / "model.pdparams"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        load_weights(pp_liteseg_t(num_classes=2), str(path))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(pp_liteseg_t(num_classes=2), str(tmp_path / "none.pdparams"))
    with pytest.raises(WeightsError, match="It is a folder; name the file in it"):
        load_weights(pp_liteseg_t(num_classes=2), str(tmp_path))


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

import pickle
import zipfile

import numpy as np
import paddle
import pytest
from reference import randomise, state_of
from torch_format import WRITERS, Tensor, authors_state, write_legacy, write_zip

from ppliteseg_paddle import load_weights, pp_liteseg_b
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models.stdc import STDCNet813
from ppliteseg_paddle.weights.read import read_state_dict, read_weight_file


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_arrays_of_all_types_and_views_come_out_as_they_went_in(form, tmp_path, rng):
    base = rng.standard_normal((4, 6)).astype(np.float32)
    bfloat16 = (base.view(np.uint32) >> 16).astype(np.uint16)
    content = {
        "half": base.astype(np.float16),
        "double": base.astype(np.float64),
        "count": np.arange(3),
        "mask": np.array([True, False]),
        "turned": Tensor(base, 0, (6, 4), (1, 6)),
        "window": Tensor(base, 8, (2, 3), (6, 1)),
        "empty": Tensor(base[:0], 0, (0, 6), (6, 1)),
        "brain": Tensor(bfloat16, storage="BFloat16Storage"),
    }
    path = str(tmp_path / "checkpoint.tar")
    WRITERS[form](path, content)
    arrays = read_state_dict(path)
    expected = {
        **content,
        "turned": base.T,
        "window": base[1:3, 2:5],
        "empty": base[:0],
        "brain": (bfloat16.astype(np.uint32) << 16).view(np.float32),
    }
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize("form", sorted(WRITERS))
@pytest.mark.parametrize("wrapping", ["nested", "bare", "data parallel"])
def test_a_checkpoint_of_the_stdc_authors_gives_the_features_of_paddlesegs_backbone(form, wrapping, tmp_path):
    from paddleseg.models import STDC1

    theirs = STDC1()
    randomise(theirs)
    state = authors_state(state_of(theirs))
    if wrapping == "data parallel":
        state = {"module." + name: array for name, array in state.items()}
    path = str(tmp_path / "STDCNet813M_73.91.tar")
    WRITERS[form](
        path, state if wrapping == "bare" else {"epoch": 9, "state_dict": state, "best": Tensor(np.float64(73.9))}
    )
    ours = STDCNet813()
    report = load_weights(ours, path, strict=True)
    assert report.complete and report.source == "the STDC authors' PyTorch backbone"
    assert "not used here: bn, conv_last, fc, linear, num_batches_tracked" in str(report)
    theirs.eval(), ours.eval()
    image = paddle.randn([1, 3, 64, 96])
    for expected, found in zip(theirs(image), ours(image)):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5 * np.abs(expected.numpy()).max())


def test_an_stdc2_checkpoint_loads_as_the_backbone_of_model_b(tmp_path):
    from paddleseg.models import STDC2

    theirs = STDC2()
    randomise(theirs)
    path = str(tmp_path / "STDCNet1446_76.47.tar")
    write_zip(path, {"state_dict": authors_state(state_of(theirs))})
    model = pp_liteseg_b(num_classes=2)
    report = load_weights(model, path)
    assert report.source == "the STDC authors' PyTorch backbone, backbone only"
    assert len(report.loaded) == len(state_of(theirs)) and report.unexpected == []
    theirs.eval(), model.eval()
    image = paddle.randn([1, 3, 64, 64])
    expected, found = theirs(image)[-1].numpy(), model.backbone(image)[-1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_form_is_told_by_the_content_whatever_the_name(tmp_path):
    for name, write, form in (
        ("a.pdparams", write_zip, "PyTorch"),
        ("b.safetensors", write_legacy, "PyTorch (before 1.6)"),
    ):
        write(str(tmp_path / name), {"a": np.zeros(3, np.float32)})
        assert read_weight_file(str(tmp_path / name))[1] == form


@pytest.mark.parametrize("form", sorted(WRITERS))
@pytest.mark.parametrize(
    "view", [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 3), (3, 1)), (-1, (1,), (1,)), (0, (2,), (-1,))]
)
def test_a_tensor_that_reaches_outside_its_numbers_is_refused(form, view, tmp_path):
    path = str(tmp_path / "out.pth")
    WRITERS[form](path, {"a": Tensor(np.zeros(4, np.float32), *view)})
    with pytest.raises(WeightsError, match=r"lies outside its (4 )?stored numbers"):
        read_state_dict(path)


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_a_checkpoint_that_would_run_a_command_is_refused_and_nothing_runs(form, tmp_path):
    witness = tmp_path / "witness"

    class RunsACommand:
        def __reduce__(self):
            return open, (str(witness), "w")

    path = str(tmp_path / "evil.tar")
    WRITERS[form](path, {"state_dict": {"a": np.zeros(3, np.float32), "b": RunsACommand()}})
    with pytest.raises(WeightsError, match=r"asks for '(io|_io)\.open', which arrays do not need"):
        read_state_dict(path)
    assert not witness.exists()


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    write_legacy(str(whole), {"a": np.zeros(1000, np.float32)})
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="100 bytes are missing at its end"):
        read_state_dict(str(cut))


def test_a_storage_that_claims_more_than_the_file_reserves_no_memory(tmp_path):
    path = tmp_path / "huge.pth"
    write_legacy(str(path), {"a": np.zeros(1000, np.float32)})
    content = path.read_bytes()
    path.write_bytes(content[:-4008] + (1 << 60).to_bytes(8, "little") + content[-4000:])
    with pytest.raises(WeightsError, match=f"{(1 << 62) - 4000} bytes are missing at its end"):
        read_state_dict(str(path))


def test_a_zip_checkpoint_without_its_numbers_is_refused(tmp_path):
    whole, part = str(tmp_path / "whole.pth"), str(tmp_path / "part.pth")
    write_zip(whole, {"a": np.zeros(3, np.float32)})
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as target:
        target.writestr("archive/data.pkl", source.read("archive/data.pkl"))
    with pytest.raises(WeightsError, match="lacks its part archive/data/0"):
        read_state_dict(part)


def test_an_unknown_protocol_and_a_foreign_reference_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1002, 2) + pickle.dumps({}, 2))
    with pytest.raises(WeightsError, match=r"unknown protocol \(1002\)"):
        read_state_dict(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X\x03\x00\x00\x00abcQ.")  # a persistent id that is a text
    with pytest.raises(WeightsError, match="something other than stored numbers"):
        read_state_dict(str(path))

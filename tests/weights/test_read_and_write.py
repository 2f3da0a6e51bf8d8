import os
import pickle
import tarfile
import zipfile

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.read import check_pickle, read_state_dict, read_weight_file
from ppliteseg_paddle.weights.write import write_state_dict


@pytest.fixture
def state(rng):
    return {
        "a.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "b": np.arange(5),
        "half": np.ones(2, np.float16),
    }


def assert_same(found, expected):
    assert list(sorted(found)) == list(sorted(expected))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("suffix, form", [(".pdparams", "Paddle"), (".safetensors", "safetensors")])
def test_what_is_written_is_read_again(suffix, form, state, tmp_path):
    path = str(tmp_path / "deep" / ("w" + suffix))
    write_state_dict(path, state)
    found, found_form = read_weight_file(path)
    assert_same(found, state)
    assert found_form == form
    assert os.listdir(tmp_path / "deep") == ["w" + suffix]


def test_paddle_loads_a_pdparams_as_one_of_its_own(state, tmp_path):
    path = str(tmp_path / "w.pdparams")
    write_state_dict(path, state)
    loaded = paddle.load(path)
    assert all(isinstance(tensor, paddle.Tensor) for tensor in loaded.values())
    assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, state)


def test_safetensors_are_known_by_content_not_by_name(state, tmp_path):
    path = str(tmp_path / "w.safetensors")
    write_state_dict(path, state)
    os.rename(path, str(tmp_path / "w.pdparams"))
    assert read_weight_file(str(tmp_path / "w.pdparams"))[1] == "safetensors"


def test_a_checkpoint_with_its_state_dict_inside_serves(state, tmp_path):
    path = str(tmp_path / "w.pdparams")
    paddle.save({"epoch": 3, "state_dict": {name: paddle.to_tensor(array) for name, array in state.items()}}, path)
    assert_same(read_state_dict(path), state)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_pickle_protocol_of_paddle_is_read(protocol, state, tmp_path):
    path = str(tmp_path / "w.pdparams")
    paddle.save({name: paddle.to_tensor(array) for name, array in state.items()}, path, protocol=protocol)
    assert_same(read_state_dict(path), state)


def test_a_failed_write_leaves_the_old_file_and_no_other(state, tmp_path):
    path = str(tmp_path / "w.pdparams")
    write_state_dict(path, state)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_state_dict(path, {"a": np.array([lambda: 0], dtype=object)})
    assert_same(read_state_dict(path), state)
    assert os.listdir(tmp_path) == ["w.pdparams"]


def test_another_suffix_cannot_be_written(state, tmp_path):
    with pytest.raises(WeightsError, match=r"weights can be written as \.pdparams or \.safetensors"):
        write_state_dict(str(tmp_path / "w.pth"), state)


def test_a_web_page_in_place_of_weights_is_told(tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"<!DOCTYPE html><html><body>Sign in</body></html>")
    with pytest.raises(WeightsError, match="it is a web page, not weights"):
        read_state_dict(str(path))


def archive_of(folder, files):
    path = str(folder / "weights.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for name in files:
            archive.add(str(folder / "w.pdparams"), name)
    return path


def test_an_archive_gives_the_weight_file_in_it(state, tmp_path):
    write_state_dict(str(tmp_path / "w.pdparams"), state)
    assert_same(read_state_dict(archive_of(tmp_path, ["m/x.pdparams", "m/readme.txt"])), state)
    assert_same(read_state_dict(archive_of(tmp_path, ["m/a.pdparams", "m/model.pdparams"])), state)
    with pytest.raises(WeightsError, match=r"holds several weight files \(m/a.pdparams, m/b.pdparams\); unpack it"):
        read_state_dict(archive_of(tmp_path, ["m/a.pdparams", "m/b.pdparams"]))
    with pytest.raises(WeightsError, match="holds no weight file"):
        read_state_dict(archive_of(tmp_path, ["m/readme.txt"]))


def test_a_zip_file_whose_beginning_is_lost_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", b"x" * 1000)
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[-30:])
    with pytest.raises(WeightsError, match=f"weight file {(tmp_path / 'w.pth')} is a damaged zip file .*: get it anew"):
        read_state_dict(str(tmp_path / "w.pth"))


def test_a_fault_inside_an_archive_names_archive_and_member(tmp_path):
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps([1]))
    with pytest.raises(WeightsError, match=r"weights\.tar\.gz: m/w\.pdparams holds a list, not names and arrays"):
        read_state_dict(archive_of(tmp_path, ["m/w.pdparams"]))


def test_an_array_of_python_objects_or_texts_is_refused(tmp_path):
    path = tmp_path / "w.pdparams"
    for array in (np.array([{}, []], dtype=object), np.array(["a"])):
        path.write_bytes(pickle.dumps({"a": array}))
        with pytest.raises(WeightsError, match="a has the type .*, which is no number"):
            read_state_dict(str(path))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("torch.serialization", "load"),
        ("paddle", "load"),
    ],
)
def test_no_other_name_is_looked_up(protocol, module, name, tmp_path):
    head = b"" if protocol < 2 else b"\x80" + bytes([protocol])
    call = (f"c{module}\n{name}\n").encode() + b"(tR."
    path = tmp_path / "w.pdparams"
    path.write_bytes(head + call)
    with pytest.raises(WeightsError, match=rf"asks for '{module}\.{name}', which arrays do not need"):
        read_state_dict(str(path))


def test_another_text_codec_is_not_looked_up(tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00base64tR.")
    with pytest.raises(WeightsError, match="asks for the text encoding 'base64'"):
        read_state_dict(str(path))


@pytest.mark.parametrize("optimizer", ["Momentum", "AdamW"])
def test_the_state_of_an_optimizer_passes_the_check_and_a_command_does_not(optimizer, tmp_path):
    layer = paddle.nn.Linear(3, 2)
    schedule = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.PolynomialDecay(0.1, 10), 5, 0.0, 0.1)
    made = getattr(paddle.optimizer, optimizer)(schedule, parameters=layer.parameters())
    layer(paddle.ones([1, 3])).sum().backward()
    made.step()
    path = tmp_path / "model.pdopt"
    paddle.save(made.state_dict(), str(path))
    check_pickle(str(path))
    path.write_bytes(b"cos\nsystem\n(Vtouch x\ntR.")
    with pytest.raises(WeightsError, match=r"model\.pdopt: the file asks for 'os\.system'"):
        check_pickle(str(path))
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"model\.pdopt cannot be read"):
        check_pickle(str(path))

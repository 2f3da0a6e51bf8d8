"""Pickles made to harm: whatever a file says, its arrays hold its own numbers, or it is refused in one line."""

import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pickle_programs as p
import pytest

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.read import read_state_dict
from ppliteseg_paddle.weights.stand_ins import Storage, TensorView

FAR = p.numpy_integer(1 << 62)


def refused(tmp_path, program, text):
    """Reads a program in a process of its own, as what these tests are about can end one."""
    path = p.write(tmp_path / "bad.pth", program)
    code = (
        "import sys; from ppliteseg_paddle.errors import WeightsError; "
        "from ppliteseg_paddle.weights.read import read_state_dict\n"
        "try: print(read_state_dict(sys.argv[1]))\n"
        "except WeightsError as error: print('refused:', error)"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("refused:") and text in result.stdout


def test_the_helpers_make_files_that_are_read(tmp_path):
    for number, value in enumerate([p.tensor(), p.array()]):
        arrays = read_state_dict(p.write(tmp_path / f"{number}.pth", p.state_dict(value)))
        np.testing.assert_array_equal(arrays["a"], np.frombuffer(p.NUMBERS, np.float32))


SHAPE_AND_STRIDES = p.pairs(
    p.text("shape"), p.items(p.numpy_integer(5)), p.text("strides"), p.items(FAR), p.text("offset"), p.integer(0)
)


@pytest.mark.parametrize(
    "state", [SHAPE_AND_STRIDES, p.items(b"N", SHAPE_AND_STRIDES), p.items(SHAPE_AND_STRIDES, b"N")]
)
@pytest.mark.parametrize("target", [p.tensor(), p.storage()], ids=["tensor", "storage"])
def test_a_tensor_that_was_checked_cannot_be_changed(target, state, tmp_path):
    refused(tmp_path, p.state_dict(target + state + b"b"), "the file changes the state of a")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_all_types_and_orders_are_read_from_each_protocol(protocol, tmp_path, rng):
    content = {
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "big endian": rng.standard_normal(5).astype(">f4"),
        "booleans": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(3.5),
        "half": rng.standard_normal((2, 2)).astype(np.float16),
        "reversed": np.arange(6).reshape(2, 3)[:, ::-1],
    }
    others = {"number": np.float32(2), "nested": {"k": (1, 1 << 70, None, 1.5, b"\xff", "\u00fc")}}
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({**content, **others}, protocol))
    arrays = read_state_dict(str(path))
    assert set(arrays) == set(content)
    for name, array in content.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype and arrays[name].flags.writeable


def test_tensors_and_storages_are_immutable():
    tensor = TensorView(Storage("0", "f4"), 0, (1,), (1,))
    for value, name in ((tensor, "shape"), (tensor, "other"), (tensor.storage, "start")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
        assert not hasattr(value, "__dict__") and not hasattr(value, "__setstate__")


REBUILT = "torch._utils", "_rebuild_tensor_v2"
LONG_LIST = b"](" + b"N" * 20000 + b"e"
CRAFTED = {
    "a type that numpy shares": (
        p.call("numpy", "dtype", p.text("f8"))
        + b"q\x01"
        + p.items(*[p.integer(3), p.text(">"), b"N", p.items(p.text("x"))], *[b"N"] * 4)
        + b"b",
        "a type with fields",
    ),
    "the defaults of a function": (
        p.name("_codecs", "encode") + p.items(b"N", p.pairs(p.text("__defaults__"), p.items(p.text("idna")))) + b"b",
        "changes the state of a Name",
    ),
    "an array of uninitialized memory": (p.call("numpy", "ndarray", p.items(p.integer(1000))), "calls a type"),
    "an array over another's memory": (
        p.call("numpy", "ndarray", p.items(p.integer(1)), p.dtype(), p.array(), p.integer(0), p.items(p.integer(4))),
        "calls a type",
    ),
    "an array built twice": (
        p.array() + p.items(p.integer(1), p.items(), p.dtype(), b"\x89", p.data(b"1234")) + b"b",
        "an array in a form",
    ),
    "an array larger than its bytes": (p.array((p.integer(1 << 62), p.integer(4))), "does not have the bytes"),
    "numpy's integers as a shape": (p.tensor(shape=(p.numpy_integer(4),)), "a tensor in a form"),
    "a shape that is no integer": (p.tensor(shape=(b"\x88",)), "a tensor in a form"),
    "a number repeated": (
        p.tensor(shape=(p.integer(1 << 33),), strides=(p.integer(0),)),
        "repeats its 16 stored numbers",
    ),
    "a tensor appended to": (p.tensor() + p.integer(1) + b"a", "appends to something that is no list"),
    "an item of a tensor": (
        p.tensor() + p.text("shape") + p.integer(1) + b"s",
        "sets items of something that is no dict",
    ),
    "a list that holds itself": (b"]q\x01h\x01a", "nested more than 100 deep"),
    "tuples too deep to hash": (b"}" + b")" + b"\x85" * 200000 + b"Ns", "has a key of type tuple"),
    "lists too deep": (b"]" * 200000 + b"a" * 199999, "nested more than 100 deep"),
    "one list copied again and again": (
        LONG_LIST + b"q\x01](" + (p.name("builtins", "tuple") + b"h\x01\x85R") * 100 + b"e",
        "the same data again and again",
    ),
    "one storage copied again and again": (b"](" + p.tensor() * 9 + b"e", "the same numbers again and again"),
    "an instance by class": (p.name("collections", "OrderedDict") + b")\x81", "pickle's opcode NEWOBJ"),
    "a registered extension": (b"\x82\x01", "pickle's opcode EXT1"),
}


@pytest.mark.parametrize("kind", list(CRAFTED))
def test_a_crafted_program_is_refused_in_one_line(kind, tmp_path):
    program, text = CRAFTED[kind]
    refused(tmp_path, p.state_dict(program), text)


def test_lists_that_double_at_each_level_take_no_time(tmp_path):
    doubled = b"]q\x01" + b"".join(
        b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(1, 60)
    )
    arrays = read_state_dict(
        p.write(tmp_path / "w.pth", b"\x80\x02" + p.pairs(p.text("a"), p.array(), p.text("b"), doubled) + b".")
    )
    assert list(arrays) == ["a"]


def test_a_memo_index_reserves_no_memory(tmp_path):
    program = p.state_dict(p.array() + b"r\xff\xff\xff\xff")
    assert list(read_state_dict(p.write(tmp_path / "w.pth", program))) == ["a"]


@pytest.mark.slow
def test_random_programs_of_opcodes_end_in_their_own_numbers_or_in_an_error(tmp_path):
    result = subprocess.run(
        [sys.executable, p.__file__, str(tmp_path), "800"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    counts = json.loads(result.stdout)
    assert set(counts) == {"error", "arrays"} and min(counts.values()) > 40, counts


def test_a_checkpoint_that_inflates_far_beyond_its_size_is_refused(tmp_path):
    path = str(tmp_path / "bomb.pth")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", p.state_dict(p.tensor()))
        archive.writestr("m/data/0", bytes(80 << 20))
    with pytest.raises(
        WeightsError, match="it would unpack to 8388[0-9]{4} bytes, more than the 6[0-9]{7} that are allowed"
    ):
        read_state_dict(path)


def test_an_archive_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("m.pdparams", b"")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "m.pth")
    with pytest.raises(WeightsError, match="outer.zip holds another archive, m.pth; unpack it"):
        read_state_dict(str(tmp_path / "outer.zip"))

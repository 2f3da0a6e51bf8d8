"""Mends of the installed Paddle and PaddleSeg that are not seen elsewhere."""

import os

import paddle
import pytest

from ppliteseg_paddle import compat

CPUINFO = "processor : 0\nvendor_id : %s\nmodel name : x\nflags : fpu sse %s\n\n"


@pytest.mark.parametrize(
    "vendor, flags, expected",
    [
        ("AuthenticAMD", "fma avx2", True),
        ("AuthenticAMD", "avx2", False),
        ("AuthenticAMD", "fma4 avx", False),
        ("GenuineIntel", "fma avx2", False),
    ],
)
def test_only_amd_processors_with_avx2_get_the_other_matrix_products(tmp_path, monkeypatch, vendor, flags, expected):
    (tmp_path / "cpuinfo").write_text(CPUINFO % (vendor, flags))
    assert compat._is_amd_with_avx2(str(tmp_path / "cpuinfo")) is expected
    monkeypatch.setattr(compat, "_is_amd_with_avx2", lambda: expected)
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    compat.choose_fast_matrix_products()
    assert os.environ.get("MKL_DEBUG_CPU_TYPE") == ("5" if expected else None)


def test_what_the_user_has_chosen_for_matrix_products_stays(monkeypatch):
    monkeypatch.setattr(compat, "_is_amd_with_avx2", lambda: True)
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "")
    compat.choose_fast_matrix_products()
    assert os.environ["MKL_DEBUG_CPU_TYPE"] == ""


def test_a_system_without_a_description_of_its_processor_is_left_alone(tmp_path):
    assert compat._is_amd_with_avx2(str(tmp_path / "none")) is False


def test_paddlesegs_arithmetic_gives_the_left_type_and_ends():
    whole, parts = paddle.to_tensor([3, 4]), paddle.to_tensor([0.5, 1.5])
    with compat.paddleseg_arithmetic():
        assert (parts + whole).tolist() == [3.5, 5.5]
        assert (parts * whole).tolist() == [1.5, 6.0]
        assert (whole * (parts > 1).astype("float32")).dtype == paddle.int64
    if compat.paddle_version() >= (3,):
        with pytest.raises(TypeError):
            parts + whole

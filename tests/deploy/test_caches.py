"""What is kept for each size of images has a bound; `scripts/soak.sh` shows the memory."""

import pytest
from exported import small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy import openvino, paddle_inference, upsampling


def test_paddle_is_told_for_how_many_sizes_to_keep_kernels(monkeypatch):
    told = {}

    def call(config, *names, arguments=()):
        told[names[0]] = arguments

    monkeypatch.setattr(paddle_inference, "_call", call)
    for bytes_kept, sizes in ((1, 1), (2**40, 10)):
        monkeypatch.setattr(paddle_inference, "_CACHE_BYTES", bytes_kept)
        Predictor(small_folder("argmax"), "paddle")
        assert told["set_onednn_cache_capacity"] == (sizes,)


@pytest.mark.parametrize("has_setting", [True, False])
def test_openvino_is_told_to_keep_few_kernels_where_it_has_the_setting(has_setting):
    class Core:
        def read_model(self, path):
            return path

        def compile_model(self, model, device, settings):
            if "CPU_RUNTIME_CACHE_CAPACITY" in settings and not has_setting:
                raise RuntimeError("Unsupported property")
            return model, device, settings

    kept = {"CPU_RUNTIME_CACHE_CAPACITY": 100} if has_setting else {}
    assert openvino._opened(Core(), "model.xml", {"A": 1}, None) == ("model.xml", "CPU", {"A": 1, **kept})


def test_ways_back_are_kept_for_the_last_sizes_only():
    for side in range(1, 200):
        upsampling._axes((4, 4), (upsampling.Undo("resize", (side, side)),))
    assert upsampling._axes.cache_info().currsize <= 64

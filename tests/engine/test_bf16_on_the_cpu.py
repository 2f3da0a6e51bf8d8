"""`--precision bf16` on a CPU, from the command's options to checkpoints and resuming."""

import paddle
import pytest

from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.train import train
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.fused.conv_bn import _bf16

pytestmark = pytest.mark.skipif(
    onednn.library() is None or not onednn.library().bf16, reason="this processor has neither AVX512_BF16 nor AMX"
)


@pytest.mark.slow
def test_a_run_in_bf16_resumes_exactly_and_says_so_where_the_precision_changes(config_path, tmp_path, capsys):
    def run(folder, precision, resume_model=None):
        config = load_config(config_path, iters=3)
        train(
            config,
            save_dir=str(tmp_path / folder),
            precision=precision,
            resume_model=resume_model,
            save_interval=2,
            device="cpu",
            seed=3,
        )
        return paddle.load(str(tmp_path / folder / "iter_3" / "model.pdparams"), return_numpy=True)

    whole = run("whole", "bf16")
    assert {str(value.dtype) for value in whole.values()} == {"float32"} and not _bf16.get()
    halfway = str(tmp_path / "whole" / "iter_2")
    capsys.readouterr()
    resumed = run("resumed", "bf16", halfway)
    assert "precision" not in capsys.readouterr().out
    assert all((resumed[name] == value).all() for name, value in whole.items())
    other = run("other", "fp32", halfway)
    assert "precision fp32 (was bf16)" in capsys.readouterr().out
    assert any((other[name] != value).any() for name, value in whole.items())


def test_without_onednn_nothing_is_begun(config_path, tmp_path, monkeypatch):
    monkeypatch.setattr(onednn, "library", lambda: None)
    with pytest.raises(ConfigError, match="--precision bf16 on a CPU needs Paddle's oneDNN"):
        train(load_config(config_path), save_dir=str(tmp_path / "output"), precision="bf16", device="cpu")
    assert not (tmp_path / "output").exists()

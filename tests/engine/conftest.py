"""What several files of tests train: one run of a tiny data set."""

import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("train") / "data")


@pytest.fixture(scope="session")
def config_path(root):
    return write_config(root / "c.yml", values(root))


@pytest.fixture(scope="session")
def run(config_path, tmp_path_factory):
    """One run with everything on: evaluation, EMA, VisualDL, TensorBoard, workers."""
    save_dir = str(tmp_path_factory.mktemp("run") / "output")
    result = trainer.train(
        load_config(config_path, iters=4),
        save_dir=save_dir,
        do_eval=True,
        save_interval=2,
        log_iters=1,
        num_workers=2,
        use_vdl=True,
        use_tensorboard=True,
        use_ema=True,
        seed=3,
        device="cpu",
    )
    return save_dir, result

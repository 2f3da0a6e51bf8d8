"""Keys of --opts that mean nothing are refused, as a typo in a file is."""

from pathlib import Path

import pytest

from ppliteseg_paddle.config.read import load
from ppliteseg_paddle.errors import ConfigError

FILE = """batch_size: 2
iters: 3
train_dataset: {type: Dataset, dataset_root: d}
model: {type: PPLiteSegNet}
optimizer: {type: Momentum}
lr_scheduler: {type: PolynomialDecay}
loss: {types: [{type: CELoss}], coef: [1]}
mine: 7
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "c.yml").write_text(FILE)
    return str(tmp_path / "c.yml")


@pytest.mark.parametrize(
    "option, words",
    [
        ("lr=3", "--opts lr: unknown key. Did you mean 'lr_scheduler.learning_rate'?"),
        ("epochs=3", "--opts epochs: unknown key. Did you mean 'iters'?"),
        ("dataset_root=a", "--opts dataset_root: unknown key. Did you mean 'train_dataset.dataset_root'?"),
        ("wings=2", "--opts wings: unknown key. `ppliteseg configs keys` lists all."),
        ("loss.coefs=1", "--opts loss.coefs: unknown key. Did you mean 'coef'?"),
    ],
)
def test_a_key_of_opts_that_nothing_reads_is_refused(config, option, words):
    with pytest.raises(ConfigError, match=words):
        load(config, [option])


def test_a_key_of_the_users_own_in_a_file_is_left_alone_and_can_be_changed(config):
    assert load(config)[0]["mine"] == 7
    assert load(config, ["mine=8"])[0]["mine"] == 8

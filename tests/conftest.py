"""Shared by all tests: our package before paddle (see `compat.load_image_codecs_before_paddle`), and seeds."""
import ppliteseg_paddle  # noqa: F401  (first, on purpose)

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeds():
    import random

    import paddle
    paddle.seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)

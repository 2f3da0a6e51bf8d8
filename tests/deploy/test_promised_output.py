"""What a graph returns is checked against deploy.yaml when it is opened."""

import os
import shutil

import pytest
from exported import small_folder

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.errors import ArtifactError


@pytest.mark.parametrize("backend", ["paddle", "paddle-native"])
@pytest.mark.parametrize("promised, kept", [("argmax", "softmax"), ("softmax", "argmax")])
def test_a_graph_that_returns_something_else_is_refused(tmp_path, backend, promised, kept):
    shutil.copytree(small_folder(promised), tmp_path / "export")
    artifact = Artifact.read(tmp_path / "export")
    for name in artifact.graphs["paddle"].values():
        shutil.copy(os.path.join(small_folder(kept), name), tmp_path / "export" / name)
    artifact.write()  # new hashes
    with pytest.raises(ArtifactError, match=r"returns .* but deploy.yaml promises .* of 11 classes"):
        open_backend(backend, Artifact.read(tmp_path / "export"), "cpu")

"""Export to Paddle Inference. The module's name does not hide the package: imports are absolute.

inference.json       the graph with one output, which every client of Paddle can open (inference.pdmodel of Paddle 2)
inference.pdiparams  its weights
inference.yml        what PaddleX reads, where PaddleX can run the model
model.json           where masks are made of logits: the same graph with these as its second output; one weight file
"""

from __future__ import annotations

import os
from dataclasses import replace

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export import paddlex
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.trace import inference_copy, save_graph
from ppliteseg_paddle.files import sha256_of

_STEM = "inference"


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the graphs and their weights. Returns: the file of each role."""
    form = inference_copy(source.model, artifact)
    form.with_logits = False
    files = save_graph(form, replace(artifact, logits=None), folder, _STEM)
    roles = dict(files)
    name = paddlex.network_name(source.model)
    if name is not None and paddlex.unable(artifact, name) is None:
        roles["paddlex"] = paddlex.write_config(artifact, name, files, folder)
    if artifact.has_logits("paddle"):
        form.with_logits = True
        both = save_graph(form, artifact, folder)
        weights, plain = (os.path.join(folder, each["params"]) for each in (both, files))
        if sha256_of(weights) == sha256_of(plain):
            os.remove(weights)
            both["params"] = files["params"]
        roles.update(both, one_output=files["model"])
    return roles

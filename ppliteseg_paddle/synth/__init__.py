"""Street scenes drawn by rule, in CamVid's eleven classes.

`render_scene` draws one; `generate` writes a data set in PaddleSeg's list form. The way of a scene:
`street` plans, `light` and `camera` are drawn, `ground`, `buildings` and everything that `placement` puts on
the street are painted from far to near onto a `canvas`, and `lens` takes the photograph.
"""

from __future__ import annotations

from ppliteseg_paddle.synth.scene import render_scene
from ppliteseg_paddle.synth.writer import GENERATOR_VERSION, generate

__all__ = ["GENERATOR_VERSION", "generate", "render_scene"]

"""From a configuration to a trained and evaluated model, through PaddleSeg's builder and loop."""

from ppliteseg_paddle import environment

environment.import_paddle()  # before any module here imports paddle

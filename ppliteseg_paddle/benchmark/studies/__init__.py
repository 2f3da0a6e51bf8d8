"""The comparisons with PaddleSeg behind `scripts/bench*.sh`; `ppliteseg benchmark` does not need them."""

from ppliteseg_paddle import environment

environment.prepare()  # before any module here imports paddle

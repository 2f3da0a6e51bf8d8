"""The comparisons with PaddleSeg behind `scripts/bench*.sh`; `ppliteseg benchmark` does not need them."""

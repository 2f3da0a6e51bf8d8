"""Losses, each with labels of its own: PaddleSeg calls them as it calls its own."""

from ppliteseg_paddle import environment

environment.import_paddle()  # before any module here does

"""The network: backbone (`stdc`), neck (`sppm`), head (`fld`, `uafm`), and their composition (`pp_liteseg`)."""

from ppliteseg_paddle import environment

environment.prepare()  # before any module here imports paddle

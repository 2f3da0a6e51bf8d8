"""The network: backbone (`stdc`), neck (`sppm`), head (`fld`, `uafm`), and their composition (`pp_liteseg`)."""

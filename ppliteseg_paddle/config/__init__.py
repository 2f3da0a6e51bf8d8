"""Configurations in PaddleSeg's YAML dialect: where they come from, how they are read, and every check before anything
is built."""

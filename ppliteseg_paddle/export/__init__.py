"""From a trained model to a folder for deployment: copy it, convert the copy, compare, describe."""

from ppliteseg_paddle import environment

environment.prepare()  # before any module here imports paddle

"""Inputs at random from seeds, for whatever reads files from strangers: `python -m fuzzing --help`.

`mutations` changes valid files, `files` makes them, `kinds` says which there are and what reads them, `worker` reads
them in a process of its own with limits, `__main__` runs workers and counts outcomes.
"""

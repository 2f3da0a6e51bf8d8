"""Whatever shows a run to a person: the progress line, VisualDL, the picture of the curves."""

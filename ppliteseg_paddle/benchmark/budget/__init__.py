"""`ppliteseg benchmark --budget_ms`: which network, input size, precision and runtime fit a time on this machine."""

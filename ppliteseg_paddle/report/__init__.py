"""Training runs as one page: what `ppliteseg report --runs` writes. It reads files only, and needs no Paddle."""

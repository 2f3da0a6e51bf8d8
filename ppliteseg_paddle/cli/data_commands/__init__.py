"""The actions of `ppliteseg data`, one file each."""

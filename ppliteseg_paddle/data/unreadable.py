"""Pairs that cannot be read, few enough to train without."""

from __future__ import annotations

import sys

from ppliteseg_paddle.errors import DataError


class Unreadable:
    """Pairs that could not be read and were skipped, counted over all reading processes.

    Args: file_list: the pairs; max_share: of them, above which the run ends.
    """

    def __init__(self, file_list, max_share: float):
        from multiprocessing.sharedctypes import RawArray

        self.file_list, self.max_share = file_list, max_share
        self._flags = RawArray("B", len(file_list))  # shared with worker processes, which are started later

    def add(self, index: int, error: DataError) -> None:
        """Take note of a pair, and report it once.

        Raises: DataError: with the list, if they have become too many.
        """
        if self._flags[index]:
            return
        self._flags[index] = 1
        print(f"skipped: {error}", file=sys.stderr, flush=True)
        paths = self.paths()
        if len(paths) > self.max_share * len(self.file_list):
            raise DataError(
                f"{len(paths):d} of {len(self.file_list):d} pairs cannot be read, more than max_unreadable_share "
                f"({self.max_share:g}) allows: {', '.join(paths)}. Fix them, or take them "
                "off the list."
            )

    def paths(self) -> list[str]:
        """The images that were skipped."""
        return [pair[0] for pair, flag in zip(self.file_list, self._flags) if flag]

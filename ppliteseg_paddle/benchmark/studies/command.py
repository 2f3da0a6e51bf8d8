"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import sys
from typing import Any, Callable

from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import check_writable, write_json


def run_and_report(run: Callable[[], dict[str, Any]], table: Callable[[dict[str, Any]], str], save_json: str) -> int:
    """Measure, write JSON, print the table; returns the exit status. Whether the file can be written is seen first."""
    try:
        check_writable(save_json)
        result = run()
        write_json(save_json, result)
    except PPLiteSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(table(result))
    print(f"written: {save_json}")
    return 0

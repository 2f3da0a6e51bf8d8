"""The examples of CONTRIBUTING.md, added as its text says: a plugin for `pytest -p contributing_examples`."""

import re
import sys
import types
from pathlib import Path

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMES = ("PlainNet", "maximum", "RareCELoss", "onnxruntime-plain")


def _run(path, source):
    """The names that a block defines; a file that is not there yet becomes an importable module."""
    name = path.replace("/", ".")[: -len(".py")]
    module = types.ModuleType(name)
    exec(compile(source, f"CONTRIBUTING.md: {path}", "exec"), vars(module))
    if not (Path(__file__).resolve().parent.parent / path).exists():
        sys.modules[name] = module
    return vars(module)


def rows():
    """(table, row) of each example; its classes are defined."""
    from ppliteseg_paddle.deploy.runtimes import RuntimeSpec

    scope = {"RuntimeSpec": RuntimeSpec}
    for head, source in BLOCKS:
        if head.endswith(".py"):
            scope.update(_run(head, source))
        else:
            yield head[len("row of ") :], eval(source, scope)


def pytest_configure(config):
    from ppliteseg_paddle.deploy.runtimes import register
    from ppliteseg_paddle.models.uafm import FUSIONS
    from ppliteseg_paddle.registry import COMPONENTS

    for table, row in rows():
        if table == "FUSIONS":
            FUSIONS.update(row)
        elif table == "the runtimes":
            register(row)
        else:
            COMPONENTS[table.split('"')[1]] += (row,)

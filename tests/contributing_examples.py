"""The examples of CONTRIBUTING.md, added as its text says: a plugin for `pytest -p contributing_examples`."""

import re
import sys
import types
from pathlib import Path

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMES = ("PlainNet", "maximum", "RareCELoss")


def _run(path, source):
    """The names that a block defines; a file that is not there yet becomes an importable module."""
    name = path.replace("/", ".")[: -len(".py")]
    module = types.ModuleType(name)
    exec(compile(source, f"CONTRIBUTING.md: {path}", "exec"), vars(module))
    if not (Path(__file__).resolve().parent.parent / path).exists():
        sys.modules[name] = module
    return vars(module)


def add():
    """Define the classes and add the rows."""
    from ppliteseg_paddle.deploy import runtimes
    from ppliteseg_paddle.models.uafm import FUSIONS
    from ppliteseg_paddle.registry import COMPONENTS

    scope = {"RuntimeSpec": runtimes.RuntimeSpec}
    for head, source in BLOCKS:
        if head.endswith(".py"):
            scope.update(_run(head, source))
            continue
        row = eval(source, scope)
        kind = re.fullmatch(r'row of (?:COMPONENTS\["(\w+)"\]|FUSIONS|the runtimes)', head).group(1)
        if kind:
            COMPONENTS[kind] += (row,)
        elif "FUSIONS" in head:
            FUSIONS.update(row)
        else:
            runtimes.register(row)


def pytest_configure(config):
    add()

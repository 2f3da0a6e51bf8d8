"""Show the versions of everything, what works here, and the command that fixes what does not.

Exit status 2 if what is installed cannot work: exported models, and training where PaddleSeg is installed. Every
package is tried in a process of its own, so that one which is broken, or ends its process, is reported like the
others."""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES
    from ppliteseg_paddle.diagnosis import probes
    from ppliteseg_paddle.diagnosis.findings import findings

    packages = probes.versions()
    print("trying each package in a process of its own ...", flush=True)
    checks, runtimes = probes.try_all()
    works = probes.working(packages, checks, runtimes)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages,
        "checks": [
            {"name": probe.name, **_plain(checks[probe.name]), "needed_for": list(probe.needed_for)}
            for probe in probes.PROBES
        ],
        "backends": [
            {
                "name": name,
                "runtime": spec.title,
                **_plain(runtimes[name]),
                "graphs": list(spec.graphs),
                "devices": list(spec.devices),
                "install": spec.install,
            }
            for name, spec in RUNTIMES.items()
        ],
        "works": works,
        "findings": findings(packages, checks),
        "exit_status": 2 if False in works.values() else 0,
    }


def _plain(outcome: Any) -> dict[str, Any]:
    return {"ok": outcome.ok, "status": outcome.status, "detail": outcome.detail}


def summary(result: dict[str, Any]) -> str:
    from ppliteseg_paddle.cli.common import as_installed
    from ppliteseg_paddle.diagnosis.findings import how_to_train

    lines = [f"Python {result['python']}, {result['platform']}, {result['cpus']} CPUs", "", "versions"]
    lines += [f"  {name:24} {version}" for name, version in result["packages"].items() if version]
    absent = [name for name, version in result["packages"].items() if not version]
    lines += [f"  not installed: {', '.join(absent)}", "", "checks"]
    lines += [f"  {check['name']:24} {check['status']:5} {check['detail']}" for check in result["checks"]]
    lines += ["", "runtimes for an exported model: --backend auto takes the fastest that works"]
    for each in result["backends"]:
        hint = f"; {each['install']}" if each["detail"] == "not installed" else ""
        graphs, devices = "/".join(each["graphs"]), "/".join(each["devices"])
        lines.append(f"  {each['name']:15} {graphs:14} {devices:8} {each['status']:5} {each['detail']}{hint}")
    if result["findings"]:
        lines += ["", "to fix"]
        for finding in result["findings"]:
            lines += [f"  {finding['level']:8} {finding['what']}", f"           {finding['fix']}"]
    said = {True: "works", False: "CANNOT WORK", None: f"not installed; {how_to_train()}"}
    lines += [""] + [f"{purpose}: {said[works]}" for purpose, works in result["works"].items()]
    return as_installed("\n".join(lines))

"""Print what makes a shell complete commands, flags, their values, and names of configurations and weights.

eval "$(ppliteseg completion bash)"                          # in ~/.bashrc
ppliteseg completion zsh > ~/.zsh/completions/_ppliteseg     # in a folder of $fpath, before compinit"""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")

# How what a metavar stands for is completed.
_FILES, _FOLDERS = {"FILE", "PATH", "LIST"}, {"DIR", "FOLDER"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def run(args: argparse.Namespace) -> dict[str, Any]:
    import shtab

    from ppliteseg_paddle.cli.main import full_parser
    from ppliteseg_paddle.config.read import shipped_configs
    from ppliteseg_paddle.weights.zoo import published

    parser = full_parser()
    program = parser.prog
    names = {"--config": sorted(shipped_configs()), "--model_path": sorted(published())}
    functions = {flag: f"_{program}_{flag.strip('-')}" for flag in names}
    _mark(parser, functions, shtab)
    preamble: Any = {
        "bash": "\n".join(_bash(functions[flag], words) for flag, words in names.items()),
        "zsh": "\n".join(_zsh(functions[flag], words) for flag, words in names.items()),
    }
    return {"shell": args.shell, "script": shtab.complete(parser, args.shell, preamble=preamble)}


def summary(result: dict[str, Any]) -> str:
    return str(result["script"])


def _mark(parser: argparse.ArgumentParser, functions: dict[str, str], shtab: Any) -> None:
    """Tell shtab how the values of each flag are completed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                _mark(child, functions, shtab)
            continue
        flag = next((flag for flag in action.option_strings if flag in functions), None)
        metavars = {action.metavar} if isinstance(action.metavar, str) else set(action.metavar or ())
        if flag is not None:
            action.complete = {**shtab.FILE, "bash": functions[flag], "zsh": functions[flag]}  # type: ignore[attr-defined]
        elif metavars & _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif metavars & _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _bash(function: str, words: list[str]) -> str:
    """A function that prints what begins with its argument: of the words, and of the files here."""
    return f'{function}() {{ compgen -W \'{" ".join(words)}\' -- "$1"; compgen -f -- "$1"; }}'


def _zsh(function: str, words: list[str]) -> str:
    return f"{function}() {{ compadd {' '.join(words)}; _files }}"

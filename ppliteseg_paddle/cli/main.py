"""`ppliteseg COMMAND ...`: finds the command's module, runs it, and turns what happens into output and an exit status.

Results go to stdout (a summary, or JSON with --json); logs, progress and errors go to stderr. `errors` lists the exit
statuses.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

from ppliteseg_paddle import environment, progress, signals
from ppliteseg_paddle.cli.common import as_installed
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError, dependency_error, install_command, one_line, suggest
from ppliteseg_paddle.files import finite

# command -> one-line help. The module is ppliteseg_paddle.cli.<command>, imported only when it is used.
COMMANDS = {
    "train": "train a model in PaddleSeg's loop",
    "val": "evaluate weights on the validation images",
    "predict": "segment images, videos or a camera",
    "serve": "a page and an API that segment with an exported model",
    "export": "write a model folder for deployment",
    "benchmark": "measure latency and throughput, find what fits a time",
    "compare": "two models on the same images: IoU, masks, speed",
    "report": "accuracy against speed, from benchmarks' results",
    "data": "prepare, check, describe or generate data sets",
    "info": "count parameters and multiply-adds of a model",
    "configs": "list, show and copy the shipped configurations; what keys mean",
    "weights": "list published weights, look into files, convert them",
    "demo": "the whole way once, on generated street scenes",
    "doctor": "show versions, what works, and what to install",
    "completion": "what makes a shell complete commands and flags",
}


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, exit status 2. An action's `hint` follows what is said of a wrong choice."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += getattr(action, "hint", "")
            raise

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see: {self.prog} --help)")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or with None the top-level one, which only knows the commands' names."""
    if command is None:
        listing = "\n".join(f"  {name:10} {purpose}" for name, purpose in COMMANDS.items())
        parser = _Parser(
            prog=_program(),
            usage="%(prog)s COMMAND [flags]",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description="PP-LiteSeg: real-time semantic segmentation with PaddlePaddle.",
            epilog=f"commands:\n{listing}\n\n'{_program()} COMMAND --help' lists a command's flags.",
        )
        parser.add_argument("--version", action="store_true", help="print the version and exit")
        return parser
    module = importlib.import_module("ppliteseg_paddle.cli." + command)
    parser = _Parser(prog=f"{_program()} {command}", **_about(module, command))
    _fill(parser, module)
    return parser


def full_parser() -> argparse.ArgumentParser:
    """One parser with all commands and their flags. It imports all of them, which `build_parser` avoids."""
    parser = build_parser()
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)
    for command, purpose in COMMANDS.items():
        module = importlib.import_module("ppliteseg_paddle.cli." + command)
        _fill(commands.add_parser(command, help=purpose, **_about(module, command)), module)
    return parser


def _about(module: ModuleType, command: str) -> dict[str, Any]:
    return {
        "description": (module.__doc__ or COMMANDS[command]).strip(),
        "allow_abbrev": False,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _fill(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    """Add the command's flags, and those that every command has."""
    module.add_arguments(parser)
    for each in _with_subparsers(parser):
        # SUPPRESS, not False: a nested parser's default would overwrite what was given before the sub-command.
        each.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print the result as JSON in place of the summary",
        )
        each.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        each.add_argument(
            "--quiet",
            action="store_true",
            default=argparse.SUPPRESS,
            help="no log and no progress bars: warnings, errors and the result only",
        )
    parser.set_defaults(_module=module)


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    _open_streams()
    with signals.ending():
        try:
            with signals.not_disguised():
                return _run(argv)
        except PPLiteSegError as error:
            return _report(error, debug)
        except ImportError as error:
            return _report(_dependency_error(error), debug)
        except KeyboardInterrupt as interrupt:
            end = signals.Interrupted.of(interrupt)
            print(one_line(end), file=sys.stderr)
            return end.exit_status
        except BrokenPipeError:  # the reader (head, less) has closed: not our error
            _drop_output()
            return 1


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        build_parser().print_help()
        return 0 if argv else 2
    if argv[0] == "--version":
        from ppliteseg_paddle import __version__

        print(f"ppliteseg {__version__}")
        return 0
    command = argv[0]
    if command not in COMMANDS:
        if command.startswith("-"):
            raise ConfigError(
                f"'{command}' is where the command belongs: write {_program()} COMMAND first, with COMMAND one of "
                f"{', '.join(COMMANDS)}."
            )
        raise ConfigError(f"unknown command '{command}'.{suggest(command, COMMANDS)}")
    args = parse(command, argv[1:])
    environment.ignore_noise()
    with _said(quiet=getattr(args, "quiet", False)):
        if getattr(args, "plugin", None):
            from ppliteseg_paddle.config.plugins import load_plugins

            load_plugins(args.plugin)
        result = args._module.run(args)
    try:
        if getattr(args, "json", False):
            print(json.dumps(finite(result), indent=2, ensure_ascii=False))
        elif hasattr(args._module, "summary"):
            print(args._module.summary(result))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise ConfigError(f"{command} is complete, but its result cannot be printed: {error.strerror}.") from None
    return int(result.get("exit_status", 0)) if isinstance(result, dict) else 0


@contextlib.contextmanager
def _said(quiet: bool) -> Iterator[None]:
    """What a command says meanwhile. PaddleSeg logs with print(): that goes to stderr, so that stdout holds the result
    and nothing else, or nowhere. Warnings go to stderr directly."""
    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(progress.quiet())
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        else:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _open_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr (`>&-`) one that leads nowhere. Else the next
    file that is opened becomes its stdout, and what a library prints lands in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # becomes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end of the process


def _drop_output() -> None:
    """Python would complain once more when it flushes what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(command: str, argv: list[str]) -> argparse.Namespace:
    """The parsed flags of one command; `args._module.run(args)` runs it. Raises: ConfigError: for a flag that it does
    not have."""
    parser = build_parser(command)
    argv = [_underscored(item) for item in argv]
    args, unknown = parser.parse_known_args(argv)
    args._argv = [command, *argv]
    for option in getattr(args, "opts", None) or ():
        _refuse_flag(option, parser)
    if unknown:
        flags = [
            option
            for each in _with_subparsers(parser)
            for option in each._option_string_actions
            if option.startswith("--")
        ]
        name = unknown[0].split("=")[0]
        near = suggest(name, flags) if name.startswith("-") else ""
        raise ConfigError(f"{command}: unknown argument '{unknown[0]}'.{near or f' See: {parser.prog} --help'}")
    return args


def _refuse_flag(option: str, parser: argparse.ArgumentParser) -> None:
    """Raises: ConfigError: for a flag among the values of --opts that is no key of a configuration."""
    from ppliteseg_paddle.config.keys import TOP_LEVEL

    name, equals, value = option.partition("=")
    flag = parser._option_string_actions.get("--" + name)
    if equals and flag and name not in TOP_LEVEL:
        given = f"--{name}" if flag.nargs == 0 else f"--{name} {value}"
        raise ConfigError(f"--opts {name}: this is a flag, not a key of a configuration: give {given}")


def _underscored(item: str) -> str:
    """--save-dir=a-b -> --save_dir=a-b; anything else is unchanged."""
    if not item.startswith("--") or item == "--":
        return item
    name, equals, value = item[2:].partition("=")
    return "--" + name.replace("-", "_") + equals + value


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from _with_subparsers(child)


def _dependency_error(error: ImportError) -> PPLiteSegError:
    """One line for a package that is missing or broken. An error of our own modules is a defect: it is raised again."""
    package = (error.name or "").split(".")[0]
    if package == "ppliteseg_paddle":
        raise error
    from ppliteseg_paddle.deploy.runtimes import install_hint

    return dependency_error(error, install_command(package) or install_hint(package))


def _report(error: PPLiteSegError, debug: bool) -> int:
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    with contextlib.suppress(OSError):  # stderr is closed, or on a full disk: the status says it alone
        print(f"error: {as_installed(one_line(error))}", file=sys.stderr, flush=True)
    return error.exit_status


def _program() -> str:
    name = os.path.basename(sys.argv[0] or "")
    return name if name in ("ppliteseg", "paddleseg") else "ppliteseg"


if __name__ == "__main__":
    sys.exit(main())

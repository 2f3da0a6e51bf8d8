import json
import os
import re
import signal
import subprocess
import sys

import pytest

from ppliteseg_paddle import __version__
from ppliteseg_paddle.cli import common
from ppliteseg_paddle.cli import main as program
from ppliteseg_paddle.cli.main import COMMANDS, main
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError


class Command:
    """A command as a module of its own: what `run` does is given by the test."""

    __doc__ = "A command for tests."

    def __init__(self, run, with_summary=True, subcommand=False):
        self.run, self.subcommand = run, subcommand
        if with_summary:
            self.summary = lambda result: f"summary of {result['value']}"

    def add_arguments(self, parser):
        if self.subcommand:
            parser = parser.add_subparsers(dest="action", required=True).add_parser("synth")
        parser.add_argument("--save_dir", default="output")
        parser.add_argument("--train", type=common.positive_int, default=1)


@pytest.fixture
def command(monkeypatch):
    def install(run, **kwargs):
        monkeypatch.setitem(COMMANDS, "probe", "for tests")
        monkeypatch.setitem(sys.modules, "ppliteseg_paddle.cli.probe", Command(run, **kwargs))

    return install


def fail(error):
    def run(args):
        raise error

    return run


def test_the_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from ppliteseg_paddle.cli.main import main; status = main(['--help']); "
        "heavy = {'paddle', 'paddleseg', 'numpy', 'cv2', 'matplotlib', 'yaml', 'onnx'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


# Paddle 2.6 needs OpenCV (and its NumPy) before it: rooms that import paddle load it.
HEAVY = {"paddle", "paddleseg", "matplotlib", "onnx", "starlette", "uvicorn"} | (
    {"numpy", "cv2"} if (paddle_version() or (3,)) >= (3,) else set()
)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_each_command_imports_nothing_heavy(name):
    code = (
        f"import sys; from ppliteseg_paddle.cli.main import build_parser; text = build_parser({name!r}).format_help(); "
        f"heavy = {HEAVY!r} & set(sys.modules); "
        "assert not heavy, heavy; assert '--json' in text and '--debug' in text"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["predict", "benchmark", "compare", "serve"])
def test_the_help_of_backend_lists_every_runtime_also_those_of_other_packages(name, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "ours", RUNTIMES["onnxruntime"])
    text = program.build_parser(name)._option_string_actions["--backend"].help
    listed = re.search(r"one of (.*?) \(default: auto, ", text).group(1).split(", ")
    assert listed == ["auto", "auto:measure", "auto:table", *RUNTIMES] and listed[-1] == "ours"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ppliteseg {__version__}\n"


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["trian"], "error: unknown command 'trian'. Did you mean 'train'?\n"),
        (
            ["--config", "x.yml"],
            "error: '--config' is where the command belongs: write ppliteseg COMMAND first, with COMMAND one of "
            "train, val,",
        ),
        (
            ["train", "--config", "c.yml", "--iter", "3"],
            "error: train: unknown argument '--iter'. Did you mean '--iters'",
        ),
        (["train"], "error: the following arguments are required: --config (see: ppliteseg train --help)\n"),
        (["train", "--config", "c.yml", "--iters", "x"], "argument --iters: 'x' is not an integer"),
        (
            ["train", "--config", "c.yml", "--iters", "0"],
            "argument --iters: 0 is not allowed: give an integer of at least 1",
        ),
        (["train", "--config", "c.yml", "--learning_rate", "-1"], "-1 is not allowed: give a number above 0"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(capsys, argv, expected):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_no_command_shows_the_help_and_fails(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_dashes_are_accepted_in_flags_and_left_in_values(command):
    seen = []
    command(lambda args: seen.append(args.save_dir) or {"value": 1})
    assert (
        main(["probe", "--save-dir", "a-b"])
        == main(["probe", "--save-dir=a-b"])
        == main(["probe", "--save_dir=a-b"])
        == 0
    )
    assert seen == ["a-b"] * 3


def test_the_summary_goes_to_stdout_and_what_is_printed_on_the_way_to_stderr(command, capsys):
    command(lambda args: print("a log line") or {"value": 7})
    assert main(["probe"]) == 0
    assert capsys.readouterr() == ("summary of 7\n", "a log line\n")


@pytest.mark.parametrize("argv", [["probe", "--json", "synth"], ["probe", "synth", "--json"]])
def test_json_goes_to_stdout_whole_also_with_subcommands(command, capsys, argv):
    command(lambda args: {"value": float("nan"), "list": (1, 2)}, subcommand=True)
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == {"value": None, "list": [1, 2]}


def test_a_known_error_is_one_line_with_its_status(command, capsys):
    command(fail(DataError("label x.png is broken.")))
    assert main(["probe"]) == 2
    assert capsys.readouterr() == ("", "error: label x.png is broken.\n")


def test_debug_shows_the_traceback_too(command, capsys):
    command(fail(ConfigError("wrong.")))
    assert main(["probe", "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("error: wrong.\n")


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(command, capsys):
    command(fail(ModuleNotFoundError("No module named 'paddle'", name="paddle.nn")))
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == "error: paddle is not installed. Install it with: pip install '.[cpu]'\n"


@pytest.mark.parametrize(
    "package, command_line",
    [
        ("pycocotools", "pip install '.[cpu,data]'"),
        ("paddle2onnx", "pip install '.[cpu,deploy]'"),
        ("openvino", RUNTIMES["openvino"].install),
    ],
)
def test_packages_of_extras_and_of_runtimes_have_their_command(command, capsys, package, command_line):
    command(fail(ModuleNotFoundError(f"No module named '{package}'", name=package)))
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == f"error: {package} is not installed. Install it with: {command_line}\n"


def test_an_unknown_package_points_to_the_doctor(command, capsys):
    command(fail(ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")))
    assert main(["probe"]) == 2
    assert "No module named 'elsewhere'. Run 'ppliteseg doctor'" in capsys.readouterr().err


def test_a_broken_package_points_to_the_doctor(command, capsys):
    command(fail(ImportError("numpy.core.multiarray failed to import")))
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == (
        "error: a package cannot be imported: numpy.core.multiarray failed to import. "
        "Run 'ppliteseg doctor': it names the cause and the fix.\n"
    )


def test_a_defect_keeps_its_traceback(command):
    command(fail(ZeroDivisionError("defect")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_an_import_error_in_our_own_code_is_a_defect(command):
    command(fail(ImportError("cannot import name", name="ppliteseg_paddle.models")))
    with pytest.raises(ImportError):
        main(["probe"])


def test_the_status_is_that_of_the_error(command, capsys):
    class RankFailed(PPLiteSegError):
        exit_status = 3

    command(fail(RankFailed("rank 1 was ended by SIGKILL (9).")))
    assert main(["probe"]) == 3
    assert capsys.readouterr().err == "error: rank 1 was ended by SIGKILL (9).\n"


def test_an_interrupt_gives_130(command, capsys):
    command(fail(KeyboardInterrupt()))
    assert main(["probe"]) == 130
    assert capsys.readouterr().err == "interrupted by SIGINT\n"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_with_its_status_and_one_line(command, capsys, number, status):
    command(lambda args: os.kill(os.getpid(), number))
    assert main(["probe"]) == status
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"


def test_a_newline_in_a_name_does_not_break_the_line(command, capsys):
    command(fail(PPLiteSegError("image a\nb.png, \x1b[31mred, does not exist; gr\u00fc\u00dfe \udcff.")))
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == r"error: image a\nb.png, \x1b[31mred, does not exist; grüße \udcff." + "\n"


def test_a_command_may_end_with_a_status_of_its_own(command):
    command(lambda args: {"value": 1, "exit_status": 2})
    assert main(["probe"]) == 2


def test_a_reader_that_closes_early_is_no_defect():
    code = "from ppliteseg_paddle.cli.main import main; import sys; sys.exit(main(['--help']))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    writer.stdout.close()
    error = writer.stderr.read()
    writer.wait()
    assert "Traceback" not in error


def with_streams(
    streams, code="from ppliteseg_paddle.cli.main import main; import sys; sys.exit(main(['configs', 'list']))"
):
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {streams}', sys.executable, code], stderr=subprocess.PIPE, text=True
    )


def test_a_result_that_cannot_be_printed_is_one_line():
    done = with_streams(">/dev/full")
    assert done.stderr == "error: configs is complete, but its result cannot be printed: No space left on device.\n"
    assert done.returncode == 2


def test_no_file_becomes_the_output_of_a_process_that_was_started_without_one(tmp_path):
    code = "from ppliteseg_paddle.cli.main import main; import os, sys; status = main(['configs', 'list']); "
    code += f"handle = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); sys.exit(status or handle <= 2)"
    assert with_streams("<&- >&- 2>&-", code).returncode == 0


def test_the_program_is_called_as_it_was_started(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/paddleseg"])
    assert program.build_parser().prog == "paddleseg"
    monkeypatch.setattr(sys, "argv", ["main.py"])
    assert program.build_parser().prog == "ppliteseg"


def test_flags_override_the_test_config_of_the_configuration():
    class Args:
        aug_eval, scales, flip_horizontal, is_slide = True, [0.5, 1.0], False, False

    merged = common.test_config_from(Args, {"flip_horizontal": True, "scales": 1.0})
    assert merged == {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True}
    Args.is_slide = True
    with pytest.raises(ConfigError, match="--is_slide needs the window"):
        common.test_config_from(Args, {})


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_quiet_leaves_warnings_and_the_result(command, capsys, monkeypatch, flags):
    from ppliteseg_paddle.progress import bar, drawn

    seen = {}

    def run(args):
        print("a log line")
        print("warning: take care", file=sys.stderr)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seen["drawn"] = drawn()
        for _ in bar([1, 2], desc="working", mininterval=0):
            pass
        return {"value": 3}

    command(run)
    assert main(["probe", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == "summary of 3\n" and "warning: take care" in err
    assert seen["drawn"] == ("a log line" in err) == ("working" in err) == (not flags)


def test_bars_are_for_terminals_only(capsys):
    from ppliteseg_paddle.progress import bar

    assert list(bar("ab", desc="working", mininterval=0)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")

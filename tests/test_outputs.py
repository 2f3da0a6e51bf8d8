"""What commands may replace: files that an earlier run wrote and nobody has changed, nothing else unasked."""

import json
import os
import subprocess
import sys

import pytest

from ppliteseg_paddle import outputs
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.outputs import MANIFEST, Outputs


def written(folder, *contents):
    """Outputs of one run after another that write a.png."""
    for content in contents:
        run = Outputs(str(folder))
        run.check([str(folder / "a.png")])
        run.write(str(folder / "a.png"), content)
    return Outputs(str(folder))


def test_what_an_earlier_run_wrote_is_replaced(tmp_path):
    written(tmp_path, b"first", b"second")
    assert (tmp_path / "a.png").read_bytes() == b"second"


@pytest.mark.parametrize("content", [b"mine", b"other"], ids=["another size", "the same size"])
def test_what_was_changed_since_is_the_users(tmp_path, content):
    run = written(tmp_path, b"first")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png exists and was not written by an earlier run.*--overwrite"):
        run.check([str(tmp_path / "a.png")])
    Outputs(str(tmp_path), overwrite=True).check([str(tmp_path / "a.png")])


def test_the_refusal_counts_what_else_would_be_replaced(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("mine")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"a \(and 2 more\) exists"):
        Outputs(str(tmp_path)).check([str(tmp_path / name) for name in "abcd"])


def test_a_run_that_is_killed_before_or_after_it_replaces_a_file_leaves_one_that_is_known(tmp_path):
    run = written(tmp_path, b"first")
    (tmp_path / "next").write_bytes(b"second")
    run.remember(str(tmp_path / "a.png"), str(tmp_path / "next"))
    assert Outputs(str(tmp_path)).wrote(str(tmp_path / "a.png"))
    os.replace(tmp_path / "next", tmp_path / "a.png")
    assert Outputs(str(tmp_path)).wrote(str(tmp_path / "a.png"))


def test_the_list_of_files_survives_a_line_that_was_cut_short_and_does_not_grow_with_runs(tmp_path):
    written(tmp_path, *(b"%d" % number for number in range(9)))
    with open(tmp_path / MANIFEST, "a") as file:
        file.write('{"file": "b.pn')
    run = written(tmp_path, b"last")
    assert run.wrote(str(tmp_path / "a.png"))
    lines = (tmp_path / MANIFEST).read_text().splitlines()
    assert len(lines) == 3 and all(json.loads(line)["file"] == "a.png" for line in lines)


def test_names_with_newlines_and_files_elsewhere_are_remembered(tmp_path):
    run = Outputs(str(tmp_path / "out"))
    paths = [str(tmp_path / "out" / "a\nb.png"), str(tmp_path / "grid.png")]
    for path in paths:
        run.write(path, b"x")
    assert all(map(Outputs(str(tmp_path / "out")).wrote, paths))
    assert Outputs(str(tmp_path / "out")).files() == set(paths)


def test_a_result_is_replaced_and_other_json_is_not(tmp_path):
    path = str(tmp_path / "val.json")
    for _ in range(2):
        outputs.check_result(path)
        outputs.write_result(path, {"mIoU": 0.5})
    assert json.loads((tmp_path / "val.json").read_text())["mIoU"] == 0.5
    for text in ('{"annotations": []}', "[1]", "no JSON"):
        (tmp_path / "val.json").write_text(text)
        with pytest.raises(ConfigError, match="is no result of ppliteseg"):
            outputs.check_result(path)
        outputs.check_result(path, overwrite=True)
        assert (tmp_path / "val.json").read_text() == text


def test_a_file_that_cannot_be_recognized_is_replaced_only_if_asked(tmp_path):
    path = tmp_path / "weights.safetensors"
    outputs.check_absent(str(path))
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists, so it is not replaced"):
        outputs.check_absent(str(path))
    outputs.check_absent(str(path), overwrite=True)
    assert path.read_text() == "mine"


def test_files_that_a_block_writes_are_checked_before_it_and_remembered_after_it(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(DataError, match="report.md exists"), Outputs(str(tmp_path)).replacing("report.md"):
        raise AssertionError("the work was begun")
    for _ in range(2):
        with Outputs(str(tmp_path)).replacing("figure.png", "never.png"):
            (tmp_path / "figure.png").write_text("drawn")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks that tell whether a process is alive")
def test_what_a_killed_run_has_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    program = (
        "import sys, time; from ppliteseg_paddle.files import save_atomic\n"
        "with save_atomic(sys.argv[1]) as path:\n"
        "    open(path, 'w').write('half'); print(path, flush=True); time.sleep(600)"
    )
    (tmp_path / "mask").mkdir()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "mask" / name)], stdout=subprocess.PIPE, text=True
        )
        for name in ("a.png", "b.png")
    ]
    try:
        killed, living = (run.stdout.readline().strip() for run in runs)
        runs[0].kill()
        runs[0].wait()
        assert os.path.exists(killed) and os.path.exists(living)
        (tmp_path / "mask" / ".mine_1234.tmp").write_text("the user's")
        Outputs(str(tmp_path)).check([str(tmp_path / "mask" / "c.png")])
        assert sorted(os.listdir(tmp_path / "mask")) == sorted([".mine_1234.tmp", os.path.basename(living)])
    finally:
        for run in runs:
            run.kill()
            run.wait()
            run.stdout.close()

"""Which checkpoint a run resumes from."""

import json

import numpy as np
import paddle
import pytest
from loop_run import a_monitor, a_run, save_checkpoint

from ppliteseg_paddle.engine.pick import Lineage, Picked, begin_run, check_resume, checkpoints_of, lineage_of, newest
from ppliteseg_paddle.errors import ConfigError, WeightsError


def without_list(folder, value=1.0):
    """A checkpoint as PaddleSeg writes it."""
    folder.mkdir(parents=True)
    for name in ("model.pdparams", "model.pdopt"):
        paddle.save({"w": paddle.to_tensor(np.array([value], "float32"))}, str(folder / name))
    return str(folder)


def a_start(save_dir, *iterations, resumed=None, start=0):
    """A run that begins in a folder, notes itself in its train.json and writes checkpoints."""
    lineage = begin_run(resumed, start)
    run = a_run(save_dir, monitor=a_monitor(save_dir, start=start, lineage=lineage))
    save_dir.mkdir(exist_ok=True)
    (save_dir / "train.json").write_text(json.dumps({"run": lineage.stored()}))
    return [save_checkpoint(run, iteration) for iteration in iterations], lineage


# --- the newest -------------------------------------------------------------------------------


def test_the_newest_checkpoint_is_picked(tmp_path):
    folders, _ = a_start(tmp_path / "o", 9, 100)
    assert newest(str(tmp_path / "o")) == Picked(folders[1])
    assert Picked(folders[1]).line("o") == f"resuming from {folders[1]}, the newest checkpoint"


def test_in_a_folder_without_checkpoints_the_run_starts_anew(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        assert newest(str(folder)) == Picked(None)
    assert Picked(None).line("o") == "no checkpoint in o: the run starts anew"


def test_a_damaged_one_is_passed_over_with_the_reason(tmp_path):
    folders, _ = a_start(tmp_path / "o", 10, 20, 30)
    (tmp_path / "o" / "iter_30" / "model.pdopt").write_bytes(b"short")
    (tmp_path / "o" / "iter_20" / "state.json").unlink()
    picked = newest(str(tmp_path / "o"))
    assert picked.folder == folders[0]
    line = picked.line("o")
    assert line.startswith(f"passed over {folders[2]} (and 1 more): it has 5 bytes of model.pdopt, not ")
    assert line.endswith(f"; resuming from {folders[0]}")


def test_checkpoints_of_an_earlier_run_in_the_folder_are_passed_over(tmp_path):
    (old,), _ = a_start(tmp_path / "o", 900)
    (new,), _ = a_start(tmp_path / "o", 10)
    assert newest(str(tmp_path / "o")) == Picked(new, [(old, "is not of the run that train.json names")])


def test_a_run_that_went_back_does_not_return_to_what_it_left(tmp_path):
    (first, left), _ = a_start(tmp_path / "o", 10, 40)
    (again,), lineage = a_start(tmp_path / "o", 30, resumed=first, start=10)
    assert newest(str(tmp_path / "o")).folder == again
    assert checkpoints_of(str(tmp_path / "o"), lineage) == [first, again]


def test_without_a_readable_record_all_checkpoints_count(tmp_path):
    (_, folder), _ = a_start(tmp_path / "o", 10, 20)
    for content in ("", "{half", "{}", '{"run": []}', '{"run": [{"name": "x"}]}'):
        (tmp_path / "o" / "train.json").write_text(content)
        assert newest(str(tmp_path / "o")) == Picked(folder)


def test_a_checkpoint_without_hashes_is_picked_if_it_can_be_loaded(tmp_path):
    whole = without_list(tmp_path / "iter_5")
    (tmp_path / "iter_9").mkdir()
    nan = without_list(tmp_path / "iter_8", float("nan"))
    broken = without_list(tmp_path / "iter_7")
    (tmp_path / "iter_7" / "model.pdopt").write_bytes(b"\x80half")
    picked = newest(str(tmp_path))
    assert picked.folder == whole
    assert [folder for folder, _ in picked.passed] == [str(tmp_path / "iter_9"), nan, broken]
    assert "w is not finite" in picked.passed[1][1] and "cannot be read" in picked.passed[2][1]


# --- lineages ---------------------------------------------------------------------------------


def test_a_lineage_continues_that_of_the_checkpoint(tmp_path):
    (folder,), first = a_start(tmp_path / "o", 10)
    assert lineage_of(folder) == first
    second = begin_run(folder, 10)
    assert second.starts[:-1] == first.starts and second.starts[-1][1] == 10
    assert [second.holds(first, iteration) for iteration in (0, 1, 10, 11)] == [False, True, True, False]
    assert second.holds(second, 11) and not second.holds(second, 10) and not first.holds(second, 11)


def test_checkpoints_without_a_list_of_files_are_of_one_run(tmp_path):
    folders = [without_list(tmp_path / f"iter_{number}") for number in (3, 5, 7)]
    assert checkpoints_of(str(tmp_path), begin_run(folders[1], 5)) == folders[:2]


def test_a_lineage_survives_json():
    lineage = Lineage((("a", 0), ("b", 7)))
    assert Lineage.of(json.loads(json.dumps(lineage.stored()))) == lineage


# --- a given one ------------------------------------------------------------------------------


def test_resume_takes_the_iteration_from_the_folder(tmp_path):
    assert check_resume(without_list(tmp_path / "iter_30") + "/") == 30


@pytest.mark.parametrize(
    "there, folder, expected, kind",
    [
        ([], "iter_9", "there is no such folder.$", ConfigError),
        (["iter_5"], "iter_9", "The latest complete checkpoint in .* is .*iter_5", ConfigError),
        (["iter_5"], ".", "not a checkpoint folder named iter_N. The latest complete", ConfigError),
        (["best_model"], "best_model", "not a checkpoint folder named iter_N. Give a folder", ConfigError),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_reported(tmp_path, there, folder, expected, kind):
    for name in there:
        without_list(tmp_path / name)
    with pytest.raises(kind, match=expected):
        check_resume(str(tmp_path / folder))


def test_a_file_in_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "iter_3").write_text("")
    with pytest.raises(ConfigError, match="iter_3: it is a file."):
        check_resume(str(tmp_path / "iter_3"))


def test_a_checkpoint_that_is_not_complete_is_reported_with_one_that_is(tmp_path):
    folders, _ = a_start(tmp_path / "o", 10, 20)
    (tmp_path / "o" / "iter_20" / "model.pdopt").unlink()
    with pytest.raises(WeightsError, match=f"it lacks model.pdopt, so it is not complete. .* is {folders[0]}."):
        check_resume(folders[1])


def test_a_changed_file_is_found_where_hashes_are_compared(tmp_path):
    (folder,), _ = a_start(tmp_path / "o", 10)
    path = tmp_path / "o" / "iter_10" / "model.pdparams"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert check_resume(folder, verify=False) == 10
    with pytest.raises(WeightsError, match="SHA-256 differs.*so it is not complete.$"):
        check_resume(folder)

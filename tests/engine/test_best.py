"""The best model, over resumes."""

from ppliteseg_paddle.engine.best import BEST_FILE, BestModel


def a_checkpoint(folder):
    folder.mkdir()
    (folder / "model.pdparams").write_text(folder.name)
    return str(folder)


def test_the_best_score_survives_a_resume_and_not_a_fresh_start(tmp_path):
    folder, checkpoint = str(tmp_path / "best_model"), a_checkpoint(tmp_path / "iter_10")
    first = BestModel(folder, "model.pdparams", resumed=False)
    assert first.improved_by(0.0)
    first.take(checkpoint, 0.5, 10)
    resumed = BestModel(folder, "model.pdparams", resumed=True)
    assert (resumed.miou, resumed.iteration) == (0.5, 10)
    assert not resumed.improved_by(0.5) and resumed.improved_by(0.51)
    assert BestModel(folder, "model.pdparams", resumed=False).improved_by(0.1)


def test_a_damaged_score_file_counts_as_none(tmp_path):
    (tmp_path / BEST_FILE).write_text("{half")
    assert BestModel(str(tmp_path), "model.pdparams", resumed=True).miou is None

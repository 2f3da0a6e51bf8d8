"""Where we join PaddleSeg's loop: the order of what is composed, drift, and that nothing global changes."""

import inspect
import re
import types

import paddle
import pytest
from loop_run import a_run
from tiny_data import make_data, values, write_config

from ppliteseg_paddle import register
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import data_parallel, seams, steps
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.engine.loop.rebind import look_up, rebound
from ppliteseg_paddle.engine.train import train
from ppliteseg_paddle.errors import DependencyError

SEAMS = {seam.name: seam for seam in seams.SEAMS}


def replaced(run, name, original):
    value = original
    for replace in SEAMS[name].replace:
        value = replace(run, value)
    return value


# --- order ------------------------------------------------------------------------------------


def test_after_the_last_update_its_step_counts_then_statistics_are_counted_then_shared(tmp_path, monkeypatch):
    """So a rank told to end while it counts saves the right step, and the shared statistics are the precise ones."""
    seen = []
    run = a_run(tmp_path, iters=2, model="model", precise_bn=lambda model: seen.append(("count", model, run.done)))
    run.updating = True
    monkeypatch.setattr(data_parallel, "average_statistics", lambda model: seen.append(("share", run.updating)))

    class Profiler:
        def add_profiler_step(self, options_str=None):
            seen.append(("profiler", run.done))

    profiler = replaced(run, "train_profiler", Profiler())
    profiler.add_profiler_step(None)
    profiler.add_profiler_step(None)
    assert seen == [("profiler", 0), ("profiler", 1), ("count", "model", 2), ("share", False)]


def test_the_averaged_model_is_noted_updated_its_statistics_counted_and_the_step_saved(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(steps, "save_checkpoint", lambda run: seen.append(("save", run.done)))
    run = a_run(tmp_path, iters=1, precise_bn=lambda model: seen.append(("count", model is average)))

    class Average(paddle.nn.Layer):
        def state_dict(self):
            seen.append(("update", run.ema_model is self))
            return {}

    average = Average()
    run.done = 1
    replaced(run, "update_ema_model", None)(average, paddle.nn.Layer(), step=1)
    assert seen == [("update", True), ("count", True), ("save", 1)]


# --- drift ------------------------------------------------------------------------------------


def loop_with(change, **names):
    """PaddleSeg's loop with a change of its source, over its names and these."""
    loop = seams.loop_function()
    space = {**loop.__globals__, **names}
    exec(compile(change(inspect.getsource(loop)), "changed", "exec"), space)
    return space["train"]


def test_the_installed_paddlesegs_loop_is_known():
    assert seams.drift(seams.loop_function()) is None
    assert seams.drift(loop_with(lambda source: source)) is None


@pytest.mark.parametrize("name", SEAMS)
def test_a_seam_that_the_loop_does_not_look_up_is_named(name):
    renamed = loop_with(lambda source: re.sub(rf"(?<![\w.]){re.escape(name)}\b(?!')", name + "_renamed", source))
    assert seams.drift(renamed) == f"train does not look up `{name}`"


@pytest.mark.parametrize(
    "names, fault",
    [
        ({"evaluate": lambda model, data: None}, "`evaluate` has no parameter eval_dataset"),
        (
            {"init_ema_params": lambda model, ema_model: None},
            "`init_ema_params` has its parameters in another order: model, ema_model",
        ),
        (
            {"update_ema_model": lambda ema_model, model, step, decay, momentum: None},
            "`update_ema_model` needs a parameter momentum",
        ),
        ({"train_profiler": object()}, "there is no `train_profiler.add_profiler_step`"),
    ],
)
def test_a_seam_of_another_signature_is_named(names, fault):
    assert seams.drift(loop_with(lambda source: source, **names)) == fault


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ("amp_level='O1',", "", "train has no parameter amp_level"),
        ("train(model,", "train(model, teacher,", "train needs a parameter teacher"),
    ],
)
def test_parameters_of_the_loop_that_do_not_fit_are_named(old, new, fault):
    assert seams.drift(loop_with(lambda source: source.replace(old, new, 1))) == fault


def test_drift_is_one_line_with_the_version_and_what_is_supported():
    changed = loop_with(lambda source: source.replace("evaluate(", "assess("))
    with pytest.raises(DependencyError) as caught:
        seams.check_loop(changed)
    import paddleseg

    text = str(caught.value)
    assert (
        text.startswith(f"PaddleSeg {paddleseg.__version__} in ") and "\n" not in text and caught.value.exit_status == 2
    )
    assert "train does not look up `evaluate`" in text and "PaddleSeg 2.8.0 and 2.9.1" in text


# --- nothing global ---------------------------------------------------------------------------


def originals():
    """What this process finds under each seam's name, and under others that a run once replaced."""
    import visualdl
    from paddleseg.core import val
    from paddleseg.utils import logger

    loop = seams.loop_function()
    found = {name: look_up(loop, name) for name in SEAMS}
    operators = ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__")
    return {
        **found,
        "train": loop,
        "LogWriter": visualdl.LogWriter,
        "progbar": val.progbar,
        "log": logger.log,
        "val.evaluate": val.evaluate,
        **{name: getattr(paddle.Tensor, name) for name in operators},
    }


class Look(Callback):
    """Compares at every event."""

    def __init__(self):
        self.before, self.events = originals(), []

    def _look(self, event):
        now = originals()
        changed = [name for name, value in self.before.items() if now[name] != value]
        self.events.append((event, changed))

    def on_step(self, monitor, read, whole):
        self._look("step")

    def on_eval(self, monitor, model, evaluation):
        self._look("eval")

    def on_save(self, monitor):
        self._look("save")


@pytest.mark.slow
def test_during_a_run_all_names_mean_to_others_what_they_meant_before(tmp_path):
    root = make_data(tmp_path / "data", train=4, val=1)
    register()  # its fixes of PaddleSeg are for everybody, and stay
    look = Look()
    train(
        load_config(write_config(root / "c.yml", values(root)), iters=1),
        save_dir=str(tmp_path / "o"),
        do_eval=True,
        use_ema=True,
        use_vdl=True,
        device="cpu",
        callbacks=[look],
    )
    assert look.events == [("step", []), ("save", []), ("eval", []), ("eval", [])]
    assert (tmp_path / "o" / "best_model" / "model.pdparams").is_file()


def test_a_rebound_function_sees_its_own_names_and_all_others():
    module = types.SimpleNamespace(io=types.SimpleNamespace(read=lambda: "read", write=lambda: "write"), save=len)
    space = {"module": module, "helper": lambda: "helped"}
    exec(
        "def work(a, *, b=2):\n    return module.io.read(), module.io.write(), module.save, helper(), sum([a, b])",
        space,
    )
    own = rebound(space["work"], {"module.io.read": lambda: "mine", "sum": max})
    assert own(1) == ("mine", "write", len, "helped", 2)
    assert space["work"](1) == ("read", "write", len, "helped", 3)

"""What we put around PaddleSeg's training loop, which itself runs unmodified.

Each context manager replaces one name that the loop looks up, for the time of the run, and states
the reason. `watched_loop` stacks them all.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import threading
import time

from ppliteseg_paddle.compat import paddleseg_arithmetic
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import save_atomic


def loop_module():
    """The module `paddleseg.core.train`; the attribute of that name is the function in it."""
    importlib.import_module("paddleseg.core.train")
    return sys.modules["paddleseg.core.train"]


@contextlib.contextmanager
def replaced(owner, name: str, value):
    """`owner.name` is `value` meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def safe_saving(watch: Monitor):
    """Reason: the loop writes checkpoints in place, so a full disk or a kill leaves half a file under the final name;
    and after a resume it saves a worse model over the best one."""
    import paddle

    save = paddle.save

    def save_atomically(obj, path, *args, **kwargs):
        if not isinstance(path, str):
            return save(obj, path, *args, **kwargs)
        if not watch.may_save(path):
            return None
        try:
            with save_atomic(path) as temporary:
                save(obj, temporary, *args, **kwargs)
        except ConfigError as error:
            raise ConfigError(f"{error} Make room, or give another --save_dir; {watch.how_to_go_on()}") from error
        watch.saving_done(path)
        return None

    with replaced(paddle, "save", save_atomically):
        yield


@contextlib.contextmanager
def watched_log(watch: Monitor):
    """Reason: the loop keeps losses for itself and only prints them; programs and curves need the numbers."""
    module = loop_module()
    logger = module.logger

    class Logger:
        def __getattr__(self, name):
            return getattr(logger, name)

        def info(self, message=""):
            # Printed first: the line on which the loss stopped being a number belongs into the log, too.
            try:
                message = watch.logged(message)
            finally:
                logger.info(message)

    with replaced(module, "logger", Logger()):
        yield


@contextlib.contextmanager
def watched_evaluation(watch: Monitor):
    """Reason: the loop drops the classes' IoU and kappa that its evaluation returns."""
    module = loop_module()
    evaluate = module.evaluate

    def evaluate_and_note(model, *args, **kwargs):
        begin = time.monotonic()
        result = evaluate(model, *args, **kwargs)
        watch.evaluated(result, time.monotonic() - begin, model)
        return result

    with replaced(module, "evaluate", evaluate_and_note):
        yield


@contextlib.contextmanager
def watched_times(watch: Monitor):
    """Reason: the loop tells only means over `log_iters` steps; a progress line lives from step to step."""
    module = loop_module()
    waited: list[float] = [0.0]

    class Averager(module.TimeAverager):
        def record(self, usetime, num_samples=None):
            super().record(usetime, num_samples)
            if num_samples is None:  # only whole steps are counted in images
                waited[0] = usetime
            else:
                watch.stepped(waited[0], usetime)

    with replaced(module, "TimeAverager", Averager):
        yield


@contextlib.contextmanager
def no_operation_count():
    """Reason: after the last iteration the loop counts operations with `paddle.flops`, which prints a page of tables
    and warnings, and fails for models whose forward it cannot trace, when all work is already saved."""
    import paddle

    with replaced(paddle, "flops", lambda *args, **kwargs: 0):
        yield


@contextlib.contextmanager
def losses_that_run():
    """Reason: the loop indexes each loss, and since Paddle 2.5 a loss has no dimension (our model sees to it itself;
    this is
    for PaddleSeg's own models). And PaddleSeg's losses need `paddleseg_arithmetic` on Paddle 3."""
    module = loop_module()
    compute = module.loss_computation

    def compute_and_reshape(*args, **kwargs):
        with paddleseg_arithmetic():
            return [loss.reshape([1]) if loss.ndim == 0 else loss for loss in compute(*args, **kwargs)]

    with replaced(module, "loss_computation", compute_and_reshape):
        yield


@contextlib.contextmanager
def average_in_place(decay: float | None = None):
    """Reason: to update the averaged weights (EMA) the loop multiplies with a number that is broadcast, and then loads
    the whole
    state again: 4 % of a training step on two cores. The values are the same. And it takes no other `decay` than 0.999,
        whose memory is longer than a short run."""
    import paddle

    def update(ema_model, model, step=0, decay=decay or 0.999):
        decay = min(1 - 1 / (step + 1), decay)
        current = model.state_dict()
        with paddle.no_grad():
            for name, average in ema_model.state_dict().items():
                if paddle.is_floating_point(average):
                    average.scale_(decay)
                    average.add_(current[name].detach().scale(1.0 - decay))

    with replaced(loop_module(), "update_ema_model", update):
        yield


@contextlib.contextmanager
def kept_ema(resume_model: str | None):
    """Reason: on resume the loop starts the averaged weights again from the plain ones, although it has saved them."""
    path = os.path.join(resume_model, EMA_PARAMS) if resume_model else ""
    if not os.path.isfile(path):
        yield
        return
    import paddle

    def load_average(ema_model, model):
        ema_model.set_state_dict(paddle.load(path))

    with replaced(loop_module(), "init_ema_params", load_average):
        yield


@contextlib.contextmanager
def reader_errors():
    """Bring an error of a reading thread or worker process into the main thread as it was raised.

    Reason: Paddle's DataLoader reads in a thread even without workers. An error there is printed as
    a traceback; the main thread then waits for ever (without workers), or gets an opaque SystemError
    about a killed queue (with workers).
    """
    before = threading.excepthook
    # While an evaluation reads, the training reader goes on, and its error is found by whoever reads next.
    caught: list[BaseException] = getattr(before, "caught", [])

    def note(args):
        reader = _reader_of(args.exc_traceback)
        if reader is None or args.exc_value is None:
            before(args)
            return
        caught.append(args.exc_value)
        reader._exit_thread_unexpectedly()  # kills the queue on which the main thread waits

    note.caught = caught
    threading.excepthook = note
    try:
        yield
    except (SystemError, RuntimeError, StopIteration) as error:
        # The queue is closed a moment before the thread has ended and told us why.
        deadline = time.time() + 5
        while not caught and time.time() < deadline and type(error) is SystemError:
            time.sleep(0.02)
        if not caught:
            raise
        raise _as_raised(caught[0]) from None
    except PPLiteSegError as error:
        raise _as_raised(error) from None
    finally:
        threading.excepthook = before


def _reader_of(traceback):
    """The DataLoader iterator in whose thread an error was raised; None if it comes from elsewhere."""
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if hasattr(owner, "_exit_thread_unexpectedly"):
            return owner
        traceback = traceback.tb_next
    return None


def _as_raised(error: BaseException) -> BaseException:
    """An error of a worker process without Paddle's wrapping, which puts the whole traceback into its text."""
    text = str(error)
    if not isinstance(error, PPLiteSegError) or "DataLoader worker" not in text:
        return error
    marks = [line.split(": ", 1)[1] for line in text.splitlines() if re.match(rf"[\w.]*{type(error).__name__}: ", line)]
    return type(error)(marks[-1] if marks else text)


@contextlib.contextmanager
def watched_loop(watch: Monitor, resume_model: str | None = None, ema_decay: float | None = None):
    """All of the above."""
    with (
        safe_saving(watch),
        watched_log(watch),
        watched_evaluation(watch),
        watched_times(watch),
        no_operation_count(),
        losses_that_run(),
        average_in_place(ema_decay),
        kept_ema(resume_model),
        reader_errors(),
    ):
        yield

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
from typing import Any, Dict, List, Optional

from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, OPTIMIZER, PARAMS, BestModel
from ppliteseg_paddle.errors import PPLiteSegError

_TRAIN_LINE = re.compile(r"\[TRAIN\] epoch: (\d+), iter: (\d+)/\d+, loss: (\S+), lr: (\S+), batch_cost: (\S+), "
                         r"reader_cost: (\S+), ips: (\S+) ")
_BEST_LINE = re.compile(r"\[EVAL\] The (EMA )?model with the best validation mIoU")
_ITER_PATH = re.compile(r"iter_(\d+)$")
FP16_PATIENCE = 3  # logged windows in a row without a finite loss that fp16 may have while its loss scale settles


class LoopWatch:
    """What a run has done so far, gathered from the loop's own log lines, evaluations and saves.

    Args:
        optimizer: asked for the learning rate when a message wants it.
        save_dir: the loop's output folder.
        start: iteration from which the run goes on; 0 for a fresh one.
        log_iters: iterations between the loop's log lines.
        fp16: with a loss scale, a few steps may overflow and are skipped; without, one is the end.
        on_progress: called with no argument after each row and each save.
    """

    def __init__(self, optimizer, save_dir: str, start: int = 0, log_iters: int = 10, fp16: bool = False,
                 on_progress=None):
        self.optimizer, self.save_dir, self.start, self.log_iters, self.fp16 = optimizer, save_dir, start, log_iters, fp16
        self.on_progress = on_progress or (lambda: None)
        self.rows: List[Dict[str, Any]] = []
        self.evaluations: List[Dict[str, Any]] = []
        self.pending: List[Dict[str, Any]] = []  # evaluated, but the loop has not yet said at which iteration
        self.saved: Optional[str] = None
        self.best = BestModel(os.path.join(save_dir, "best_model"), resumed=start > 0)
        self.ema_best = BestModel(os.path.join(save_dir, "ema_best_model"), resumed=start > 0)
        self.not_finite = 0

    @property
    def iteration(self) -> int:
        """The last iteration that the loop has logged or saved."""
        saved = int(_ITER_PATH.search(self.saved).group(1)) if self.saved else self.start
        return max([saved] + [row["iter"] for row in self.rows[-1:]])

    def logged(self, message: str) -> str:
        """Take note of a log line; returns what to print in its place.

        Raises: PPLiteSegError: if the loss is no finite number any more.
        """
        match = _TRAIN_LINE.search(message)
        if match:
            epoch, iteration = int(match.group(1)), int(match.group(2))
            loss, lr, batch_cost, reader_cost, ips = (float(text) for text in match.groups()[2:])
            # The loop divides by log_iters also after a resume in the middle of a window, where it has summed fewer.
            summed = min(self.log_iters, iteration - self.start)
            if summed < self.log_iters:
                loss *= self.log_iters / summed
                message = message.replace("loss: " + match.group(3), "loss: %.4f" % loss)
            self.rows.append({"iter": iteration, "epoch": epoch, "loss": loss, "lr": lr,
                              "batch_cost": batch_cost, "reader_cost": reader_cost, "ips": ips})
            self._watch_loss(iteration, loss)
            self.on_progress()
            return message
        match = _BEST_LINE.search(message)
        if match:
            best = self.ema_best if match.group(1) else self.best
            return "%s%s mIoU: %.4f, at iter %d." % ("[EVAL] Best ", "EMA" if match.group(1) else "model's",
                                                    best.miou, best.iteration)
        return message

    def _watch_loss(self, iteration: int, loss: float) -> None:
        self.not_finite = 0 if abs(loss) < float("inf") else self.not_finite + 1
        if self.not_finite > (FP16_PATIENCE if self.fp16 else 0):
            advice = "go on from %s" % self.saved if self.saved else "start again"
            raise PPLiteSegError("the loss is %s at iteration %d, so the weights are lost: %s with a lower --learning_rate "
                                 "(it is %g now), and look at the labels if it happens again."
                                 % (loss, iteration, advice, self.optimizer.get_lr()))

    def evaluated(self, result, seconds: float) -> None:
        """Take note of what `paddleseg.core.evaluate` returned; the loop evaluates the EMA model second."""
        miou, accuracy, class_iou, _, kappa = result
        self.pending.append({"mIoU": float(miou), "acc": float(accuracy), "kappa": float(kappa),
                             "class_iou": [float(value) for value in class_iou], "ema": bool(self.pending),
                             "seconds": round(seconds, 3)})

    def may_save(self, path: str) -> bool:
        """Whether the loop's save to `path` is to happen: not where it would put a worse model over the best one."""
        best = self._best_of(path)
        return best is None or best.improved_by(self._score(best))

    def saving_done(self, path: str) -> None:
        """Take note of a file that is on disk now."""
        best = self._best_of(path)
        match = _ITER_PATH.search(os.path.dirname(path))
        if best is not None:
            best.set(self._score(best), self.evaluations[-1]["iter"])
        elif match and os.path.basename(path) == PARAMS:
            self.evaluations += [{"iter": int(match.group(1)), **evaluation} for evaluation in self.pending]
            self.pending = []
        elif match and os.path.basename(path) == OPTIMIZER:  # the second and last file that a resume needs
            self.saved = os.path.dirname(path)
        self.on_progress()

    def _best_of(self, path: str) -> Optional[BestModel]:
        return {"best_model": self.best, "ema_best_model": self.ema_best}.get(os.path.basename(os.path.dirname(path)))

    def _score(self, best: BestModel) -> float:
        return next(e["mIoU"] for e in reversed(self.evaluations) if e["ema"] == (best is self.ema_best))


# --------------------------------------------------------------------------------------------
# One name each
# --------------------------------------------------------------------------------------------
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
def safe_saving(watch: LoopWatch):
    """Reason: the loop writes checkpoints in place, so a full disk or a kill leaves half a file under the final name;
    and after a resume it saves a worse model over the best one."""
    import paddle
    save = paddle.save

    def save_whole(obj, path, *args, **kwargs):
        if not isinstance(path, str):
            return save(obj, path, *args, **kwargs)
        if not watch.may_save(path):
            return None
        temporary = path + ".tmp"
        try:
            save(obj, temporary, *args, **kwargs)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
        watch.saving_done(path)
        return None

    with replaced(paddle, "save", save_whole):
        yield


@contextlib.contextmanager
def watched_log(watch: LoopWatch):
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
def watched_evaluation(watch: LoopWatch):
    """Reason: the loop drops the classes' IoU and kappa that its evaluation returns."""
    module = loop_module()
    evaluate = module.evaluate

    def evaluate_and_note(*args, **kwargs):
        begin = time.time()
        result = evaluate(*args, **kwargs)
        watch.evaluated(result, time.time() - begin)
        return result

    with replaced(module, "evaluate", evaluate_and_note):
        yield


@contextlib.contextmanager
def no_operation_count():
    """Reason: after the last iteration the loop counts operations with `paddle.flops`, which prints a page of tables
    and warnings, and fails for models whose forward it cannot trace, when all work is already saved."""
    import paddle
    with replaced(paddle, "flops", lambda *args, **kwargs: 0):
        yield


@contextlib.contextmanager
def losses_with_a_dimension():
    """Reason: the loop indexes each loss, and since Paddle 2.5 a loss has no dimension. Our model sees to it itself;
    this is for PaddleSeg's own models, with losses that run on the installed Paddle."""
    module = loop_module()
    compute = module.loss_computation

    def compute_and_reshape(*args, **kwargs):
        return [loss.reshape([1]) if loss.ndim == 0 else loss for loss in compute(*args, **kwargs)]

    with replaced(module, "loss_computation", compute_and_reshape):
        yield


@contextlib.contextmanager
def kept_ema(resume_model: Optional[str]):
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
    caught: List[BaseException] = []
    before = threading.excepthook

    def note(args):
        reader = _reader_of(args.exc_traceback)
        if reader is None or args.exc_value is None:
            before(args)
            return
        caught.append(args.exc_value)
        reader._exit_thread_unexpectedly()  # kills the queue on which the main thread waits

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
    marks = [line.split(": ", 1)[1] for line in text.splitlines() if re.match(r"[\w.]*%s: " % type(error).__name__, line)]
    return type(error)(marks[-1] if marks else text)


@contextlib.contextmanager
def watched_loop(watch: LoopWatch, resume_model: Optional[str] = None):
    """All of the above."""
    with safe_saving(watch), watched_log(watch), watched_evaluation(watch), no_operation_count(), \
            losses_with_a_dimension(), kept_ema(resume_model), reader_errors():
        yield

"""The options of a training and of an evaluation: one place for each default, validated once. The command line reads
them, so nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ppliteseg_paddle.errors import ConfigError

PRECISIONS, AMP_LEVELS = ("fp32", "fp16", "bf16"), ("O1", "O2")


def _check_integer(name: str, value: Any, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(f"--{name} {value!r} is not allowed: give an integer of at least {minimum:d}.")


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"--{name} {value!r} is not allowed: choose from {', '.join(choices)}.")


@dataclass(frozen=True)
class TrainOptions:
    """How a configuration is trained.

    Args:
        save_dir: gets iter_N/, best_model/ (with `do_eval`), config.yml and train.json.
        do_eval: evaluate at every `save_interval` and at the end, and keep the best model.
        best_by: what the best model is best by: mIoU, acc, kappa, dice or IoU:CLASS; None: the configuration's.
        early_stop_intervals: evaluations without improvement after which the run ends; None: the configuration's.
        save_interval: iterations between checkpoints, of which the last `keep_checkpoint_max` are kept (0: all); None:
            the configuration's.
        log_iters: iterations between rows of the record and lines of the log.
        num_workers: processes that read data; 0 reads in this process.
        use_vdl: write curves, sample predictions and the model's graph for VisualDL.
        use_tensorboard: write the same curves and predictions for TensorBoard.
        val_pictures: write predictions of a few validation images into `save_dir` at each evaluation.
        use_ema: also keep an average of the weights over time.
        resume_model: folder iter_N to resume from, or "auto" for the newest complete one in `save_dir`.
        model_path: weights to start from.
        device: "cpu", "gpu", "gpu:1", ...; None takes a GPU where there is one.
        precision: "fp32", "fp16" or "bf16"; on a CPU, bf16 is that of convolutions, where the processor multiplies it.
        amp_level: of Paddle's mixed precision, "O1" or "O2".
        seed: of paddle, numpy, random and the training set; None leaves them random.
        auto_scale: fit the configuration's recipe to the devices and the batch at hand (see `engine.scaling`).
        full_check: read all of the data before the start, not a sample.
        verbose: show what PaddleSeg logs about each component.
        max_minutes: of wall time, in place of the configured iterations (see `engine.loop.budget`).
        command: line that starts the run, for messages that say how to resume it.
        callbacks: told of each step, row, evaluation and checkpoint on the first rank: `engine.loop.monitor.Callback`.
    Raises: ConfigError
    """

    save_dir: str = "output"
    do_eval: bool = False
    best_by: str | None = None
    early_stop_intervals: int | None = None
    save_interval: int | None = None
    log_iters: int = 10
    num_workers: int = 0
    use_vdl: bool = False
    use_tensorboard: bool = False
    val_pictures: bool = True
    use_ema: bool = False
    resume_model: str | None = None
    keep_checkpoint_max: int = 5
    model_path: str | None = None
    device: str | None = None
    precision: str = "fp32"
    amp_level: str = "O1"
    seed: int | None = None
    auto_scale: bool = True
    full_check: bool = False
    verbose: bool = False
    max_minutes: float | None = None
    command: Sequence[str] = ()
    callbacks: Sequence[Any] = ()

    def __post_init__(self) -> None:
        for name, minimum in (("log_iters", 1), ("num_workers", 0), ("keep_checkpoint_max", 0)):
            _check_integer(name, getattr(self, name), minimum)
        for name, minimum in (("save_interval", 1), ("seed", 0), ("early_stop_intervals", 1)):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), minimum)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("amp_level", self.amp_level, AMP_LEVELS)
        if self.max_minutes is not None and not 0 < self.max_minutes < float("inf"):
            raise ConfigError(f"--max_minutes {self.max_minutes} is not allowed: give a number above 0.")


@dataclass(frozen=True)
class EvalOptions:
    """How a model is evaluated.

    Args:
        aug_eval: average over `scales` and flips; is_slide: by windows of `crop_size` every `stride`, both (width,
            height).
        precision: fp16 or bf16 runs under Paddle's automatic mixed precision, at `amp_level`.
        num_workers: processes that read data; 0 reads in this process.
        progress: show a progress bar on stderr.
        batch_size: images at once, as far as neighbors have one size. Worth it on GPUs; windows go one by one.
    Raises: ConfigError
    """

    aug_eval: bool = False
    scales: float | Sequence[float] = 1.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    is_slide: bool = False
    stride: Sequence[int] | None = None
    crop_size: Sequence[int] | None = None
    precision: str = "fp32"
    amp_level: str = "O1"
    num_workers: int = 0
    progress: bool = True
    batch_size: int = 1

    def __post_init__(self) -> None:
        _check_integer("batch_size", self.batch_size, 1)
        _check_integer("num_workers", self.num_workers, 0)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("amp_level", self.amp_level, AMP_LEVELS)
        if self.is_slide and not (self.crop_size and self.stride):
            raise ConfigError("--is_slide needs the window: add --crop_size W H and --stride W H.")

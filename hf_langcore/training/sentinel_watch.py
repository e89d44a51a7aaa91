"""One run under watch: measuring, judging and answering."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn
from transformers.trainer_callback import CallbackHandler

from hf_langcore.data import check_batch_size
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.training.sentinel_breaches import AfterRevert, Breach, Limits, OnBreach, loss_breach
from hf_langcore.training.sentinel_drift import DriftWatch
from hf_langcore.training.sentinel_measuring import agreed, measure, rank, require_finite
from hf_langcore.training.sentinel_record import Measurement, SentinelRecord
from hf_langcore.training.sentinel_state import GoodState, forget_momentum, lower_learning_rate
from hf_langcore.training.sentinel_training import log

_EXPENSIVE = 0.1  # of the training time
_NOTICED = 5.0  # seconds that are worth a word
_ROUNDING = 1e-6  # of the step fractions that a position in an epoch is summed from

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """When the sentinel looks, and what it does; the names are those of `LanguageSentinel`.

    Raises:
        InputError: One of them is out of range.
    """

    every: float
    limits: Limits
    on_breach: OnBreach
    after_revert: AfterRevert
    learning_rate_factor: float
    max_reverts: int
    batch_size: int | Literal["auto"]
    snapshot_dir: Path | None

    def __post_init__(self) -> None:
        if not _is_interval(self.every):
            raise InputError(
                "every must be a whole number of steps, at least 1, or a fraction of an epoch between 0 and 1, such as "
                f"0.25; got {self.every!r}."
            )
        for name, kinds in (("on_breach", OnBreach), ("after_revert", AfterRevert)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"{name} must be one of {list(get_args(kinds))}, got {getattr(self, name)!r}.")
        if not 0 < self.learning_rate_factor <= 1:
            raise InputError(
                f"learning_rate_factor must be above 0 and at most 1, got {self.learning_rate_factor!r}: after a revert "
                "the same steps would be made again."
            )
        if isinstance(self.max_reverts, bool) or not isinstance(self.max_reverts, int) or self.max_reverts < 0:
            raise InputError(f"max_reverts must be a whole number of at least 0, got {self.max_reverts!r}.")
        check_batch_size(self.batch_size)

    def is_time(self, step: int, epoch: float, last_epoch: float) -> bool:
        """Whether a measurement is due.

        Args:
            step: Optimizer steps that were made.
            epoch: Position in the data, in epochs.
            last_epoch: The position at the last measurement.
        """
        if isinstance(self.every, int):
            return step % self.every == 0
        passed, before = (int(at / self.every + _ROUNDING) for at in (epoch, last_epoch))
        return passed > before


@dataclass(frozen=True, slots=True)
class Training:
    """What is being watched: a Trainer's parts, as it passes them to callbacks.

    Attributes:
        args: The training arguments.
        model: The model that is trained.
        optimizer: Its optimizer.
        scheduler: The learning-rate scheduler.
        handler: The Trainer's callbacks, if they were found.
    """

    args: Any
    model: nn.Module
    optimizer: Any
    scheduler: Any
    handler: CallbackHandler | None


class Watch:
    """Watches one call of `trainer.train`.

    Args:
        options: When to look and what to do.
        training: What is watched.
        task: The tokenised texts.
        drift: What is compared with the start.
        record: What was seen before, where the run resumes; it is continued.
    """

    def __init__(
        self, options: Options, training: Training, *, task: ScoringTask, drift: DriftWatch, record: SentinelRecord
    ) -> None:
        self.record = record
        self._options, self._training, self._task, self._drift = options, training, task, drift
        self._good = GoodState(options.snapshot_dir) if options.on_breach == "revert" else None
        self._warned = {(one.kind, one.subject): one.level for one in record.breaches}
        self._reverts = 0
        self._began = time.perf_counter() - record.train_seconds

    def begin(self, state: Any, control: Any) -> None:
        """Measure the baseline; of a resumed run what it resumes with.

        Raises:
            NonFiniteError: The baseline is not finite.
            ConfigurationError: A run resumes in breach, and the sentinel is to do more than warn.
        """
        seen = self.record.measurements
        is_resumed = bool(seen)
        # After a revert the checkpoint of that step holds other weights than those that were measured.
        if not is_resumed or seen[-1].step != state.global_step or self._was_answered(state.global_step, "revert"):
            self._measure(state, control)
        require_finite(seen[0].scores)
        breaches = self._breaches(seen[-1])
        if breaches and self._options.on_breach != "warn":
            raise ConfigurationError(
                f"The checkpoint from which training resumes is in breach already: {breaches[0]}. Resume from an earlier "
                "checkpoint, raise limit= or drift_limit=, or set on_breach='warn'."
            )
        self._conclude(breaches, state, control)

    def look(self, state: Any, control: Any) -> None:
        """Measure now, and answer breaches."""
        measurement = self._measure(state, control)
        self._conclude(self._breaches(measurement), state, control)

    def is_time(self, state: Any) -> bool:
        """Whether a measurement is due."""
        last = self.record.measurements[-1]
        return self._options.is_time(state.global_step, float(state.epoch or 0), last.epoch)

    def has_looked_at(self, step: int) -> bool:
        """Whether the weights after a step were measured."""
        return self.record.measurements[-1].step == step

    def hear(self, logs: Mapping[str, Any], state: Any, control: Any) -> None:
        """Answer figures of the Trainer that are not finite: its loss, or its gradient norm.

        With fp16 an infinite gradient norm is ordinary, since the loss scale is searched for that way.
        """
        names = ["loss"] if self._training.args.fp16 else ["loss", "grad_norm"]
        if self._was_answered(state.global_step, "revert", "stop"):
            return  # the measurement after the same step has seen it, too
        bad = [name for name in names if name in logs and not math.isfinite(float(logs[name]))]
        if bad:
            self._answer([loss_breach(state.global_step, f"the logged {name}") for name in bad], control)
            self._write(state)

    def _was_answered(self, step: int, *actions: OnBreach) -> bool:
        """Whether a breach was seen at a step and answered in one of these ways."""
        return any(breach.step == step and breach.action in actions for breach in self.record.breaches)

    def end(self, state: Any) -> None:
        """Measure the best model where the Trainer has loaded it, and say what the watching cost."""
        if self._training.args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self.record.measurements.append(self._measured(state, "best model"))
        self._write(state)
        if self.record.time_share > _EXPENSIVE and self.record.seconds > _NOTICED:
            self._say(
                "The sentinel took %.0f %% of the training time (%.1f of %.1f s). Measure less often (every=) or less "
                "text (max_tokens=, fewer languages).",
                100 * self.record.time_share,
                self.record.seconds,
                self.record.train_seconds,
            )

    def _measure(self, state: Any, control: Any) -> Measurement:
        """Measure, remember and log."""
        measurement = self._measured(state, f"step {state.global_step}")
        self.record.measurements.append(measurement)
        log(self._training.handler, self._training.args, state, control, measurement.logs(self.record.measurements[0]))
        return measurement

    def _measured(self, state: Any, label: str) -> Measurement:
        began = time.perf_counter()
        scores = measure(self._training.model, self._task, batch_size=self._options.batch_size)
        drift = agreed(self._drift.now())
        seconds = time.perf_counter() - began
        return Measurement(state.global_step, float(state.epoch or 0), scores, drift, seconds, label)

    def _breaches(self, measurement: Measurement) -> list[Breach]:
        baseline = self.record.measurements[0]
        return self._options.limits.breaches(measurement.step, measurement.scores, baseline.scores, measurement.drift)

    def _conclude(self, breaches: Sequence[Breach], state: Any, control: Any) -> None:
        if breaches:
            self._answer(breaches, control)
        elif self._good is not None:
            self._good.keep(self._training.model, state.global_step)
        self._write(state)

    def _answer(self, breaches: Sequence[Breach], control: Any) -> None:
        action = self._options.on_breach
        for breach in breaches:
            key = (breach.kind, breach.subject)
            if action == "warn" and breach.level <= self._warned.get(key, 0):
                continue
            self._warned[key] = breach.level
            self.record.breaches.append(breach.answered(action))
            self._say("Sentinel (%s): %s.", action, breach)
        if action == "revert":
            self._revert(breaches, control)
        elif action == "stop":
            self._stop(breaches, control, "")

    def _revert(self, breaches: Sequence[Breach], control: Any) -> None:
        if self._good is None:
            return
        step = self._good.restore(self._training.model)
        forget_momentum(self._training.optimizer)
        self._reverts += 1
        if self._options.after_revert == "stop" or self._reverts > self._options.max_reverts:
            self._stop(breaches, control, f"; the weights are those of step {step}")
            return
        lower_learning_rate(self._training.optimizer, self._training.scheduler, self._options.learning_rate_factor)
        self._say(
            "Sentinel: the trained weights are those of step %d again, the optimizer starts afresh, and the learning rate "
            "is multiplied by %g.",
            step,
            self._options.learning_rate_factor,
        )

    def _stop(self, breaches: Sequence[Breach], control: Any, what: str) -> None:
        control.should_training_stop = True
        self.record.stopped_because = f"{'; '.join(map(str, breaches))}{what}"
        self._say("Sentinel: training stops%s.", what)

    def _say(self, message: str, *figures: object) -> None:
        """Warn, once and not in every process."""
        if rank() == 0:
            logger.warning(message, *figures)

    def _write(self, state: Any) -> None:
        self.record.train_seconds = time.perf_counter() - self._began
        if state.is_world_process_zero:
            self.record.write(Path(self._training.args.output_dir))


def _is_interval(every: object) -> bool:
    if isinstance(every, bool) or not isinstance(every, (int, float)):
        return False
    return every >= 1 if isinstance(every, int) else 0 < every < 1

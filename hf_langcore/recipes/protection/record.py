"""What one run of the experiments on protection learned and lost, in memory and in its file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_langcore.recipes.protection.tasks import Target


@dataclass(frozen=True, slots=True)
class ProtectionRun:
    """What one run learned and lost.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        seed: Of data, order, adapter and random mask.
        target_before: The task before training.
        target_after: The task after it.
        choice_gain: Loss that training took away on the rows by which learning rates are chosen.
        kept_before: Language -> loss in nats per token before training, of the languages to be kept.
        kept_after: The same after it.
        core_changed: Frozen weights whose bits differ from the base, of `core_size`. Where nothing is frozen those
            of the core are counted.
        core_size: Number of these weights.
        trained: Number of parameters that were trained.
        steps: Optimizer steps.
        seconds: Of training.
        settings: Of model, method and task; a kept run with other settings is done again.
    """

    task: str
    method: str
    seed: int
    target_before: Target
    target_after: Target
    choice_gain: float
    kept_before: dict[str, float]
    kept_after: dict[str, float]
    core_changed: int
    core_size: int
    trained: int
    steps: int
    seconds: float
    settings: dict[str, Any]

    @property
    def gain(self) -> float:
        """Loss on the task that training took away, in nats per token."""
        return self.target_before.loss - self.target_after.loss

    @property
    def forgotten(self) -> float:
        """Logarithm of the factor by which the geometric mean of the kept perplexities rose."""
        return sum(self.kept_after[name] - loss for name, loss in self.kept_before.items()) / len(self.kept_before)


def read_run(path: Path) -> ProtectionRun | None:
    """A run from its file; None where there is none, or one of another version."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for name in ("target_before", "target_after"):
            values[name] = Target(**{**values[name], "loss": float(values[name]["loss"])})
        for name in ("kept_before", "kept_after"):
            values[name] = {language: float(loss) for language, loss in values[name].items()}
        return ProtectionRun(**{**values, "choice_gain": float(values["choice_gain"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def as_json_values(value: Any) -> Any:
    """Values with words for infinity and NaN, which destroyed models give and JSON has no numbers for."""
    if isinstance(value, dict):
        return {name: as_json_values(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_values(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

"""What counts as a breach, and how it is said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from hf_langcore.errors import InputError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.training.sentinel_drift import Drift

Kind = Literal["perplexity", "mean", "drift", "loss"]
LimitOn = Literal["language", "mean"]
OnBreach = Literal["warn", "stop", "revert"]
AfterRevert = Literal["stop", "continue"]

_HIGHEST_LEVEL = 1000  # of an infinite perplexity
_LARGE = 1e6


@dataclass(frozen=True, slots=True)
class Breach:
    """One limit that was passed.

    Attributes:
        step: The optimizer step at which it was seen.
        kind: "perplexity" of a language, "mean" perplexity, "drift" of a dimension, or "loss" (no finite number).
        subject: The language, the dimension, or the figure that is not finite.
        value: Perplexity, or relative change; infinite where it is no number.
        baseline: The perplexity before the first step; 0 for "drift" and "loss".
        allowed: The largest value that is no breach.
        level: How many times the limit was passed in a row of multiplications: 1 above limit, 2 above limit squared.
        action: "warn", "stop", or "revert": what was done.
    """

    step: int
    kind: Kind
    subject: str
    value: float
    baseline: float
    allowed: float
    level: int
    action: OnBreach = "warn"

    def __str__(self) -> str:
        if self.kind == "loss":
            return f"step {self.step}: {self.subject} is no finite number"
        if self.kind == "drift":
            return f"step {self.step}: {self.subject} has moved by {self.value:.1%}, allowed are {self.allowed:.1%}"
        return (
            f"step {self.step}: perplexity of {self.subject} is {_figure(self.value)}, {_figure(self.value / self.baseline)} "
            f"times what it was before training ({_figure(self.baseline)}); allowed is {_figure(self.allowed)}"
        )

    def answered(self, action: OnBreach) -> Breach:
        """The same, with what was done."""
        return replace(self, action=action)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinity becomes the string "inf"."""
        values = asdict(self)
        return {**values, "value": self.value if math.isfinite(self.value) else "inf"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Breach:
        """What `to_dict` wrote."""
        return cls(**{**values, "value": float(values["value"])})


@dataclass(frozen=True, slots=True)
class Limits:
    """When the sentinel acts.

    Attributes:
        limit: How many times the baseline a perplexity may be.
        limit_on: "language": any language; "mean": their geometric mean.
        drift_limit: How far a watched dimension may move, relative to its start; None for any distance.

    Raises:
        InputError: One of them is out of range.
    """

    limit: float
    limit_on: LimitOn
    drift_limit: float | None

    def __post_init__(self) -> None:
        if not _is_number(self.limit) or not 1 < self.limit < math.inf:
            raise InputError(f"limit must be a number above 1, such as 1.2 for 20 % more, got {self.limit!r}.")
        if self.limit_on not in get_args(LimitOn):
            raise InputError(f"limit_on must be one of {list(get_args(LimitOn))}, got {self.limit_on!r}.")
        if self.drift_limit is not None and (not _is_number(self.drift_limit) or not self.drift_limit > 0):
            raise InputError(f"drift_limit must be above 0, such as 0.1 for 10 %, or None, got {self.drift_limit!r}.")

    def breaches(
        self, step: int, scores: Mapping[str, LanguageScore], baseline: Mapping[str, LanguageScore], drift: Drift
    ) -> list[Breach]:
        """The limits that a measurement passes.

        Args:
            step: The optimizer step.
            scores: Language -> score now.
            baseline: Language -> score before the first step.
            drift: What has moved.
        """
        return [*self._perplexities(step, scores, baseline), *self._drifts(step, drift)]

    def _perplexities(
        self, step: int, scores: Mapping[str, LanguageScore], baseline: Mapping[str, LanguageScore]
    ) -> Iterator[Breach]:
        pairs: dict[str, tuple[float, float]] = {
            language: (scores[language].perplexity, baseline[language].perplexity) for language in scores
        }
        kind: Kind = "perplexity"
        if self.limit_on == "mean":
            kind, pairs = "mean", {"all languages (geometric mean)": (mean(scores), mean(baseline))}
        for subject, (now, before) in pairs.items():
            if not now <= self.limit * before:
                yield Breach(step, kind, subject, now, before, self.limit * before, self._level(now / before))

    def _drifts(self, step: int, drift: Drift) -> Iterator[Breach]:
        limit = self.drift_limit
        if limit is not None and drift.largest > limit:
            level = int(min(_HIGHEST_LEVEL, drift.largest // limit))
            yield Breach(step, "drift", drift.where or "a dimension", drift.largest, 0.0, limit, max(1, level))

    def _level(self, ratio: float) -> int:
        return max(1, int(min(_HIGHEST_LEVEL, math.log(ratio) / math.log(self.limit))))


def loss_breach(step: int, subject: str) -> Breach:
    """A loss or gradient that is no finite number."""
    return Breach(step, "loss", subject, math.inf, 0.0, 0.0, 1)


def mean(scores: Mapping[str, LanguageScore]) -> float:
    """Geometric mean of the perplexities, each language counting the same."""
    nll = sum(one.nll for one in scores.values()) / len(scores)
    return LanguageScore(nll, 0).perplexity


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < _LARGE else f"{value:.2e}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

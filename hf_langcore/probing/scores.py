"""How well a probe does in one language: over seeds, with an interval over sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.extras import require

LEVEL = 0.95
"""Share of the resampled figures that lie inside an interval."""

_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """One cell: a probe of one layer on one language.

    Attributes:
        accuracy: Share of right labels on held-out sentences, mean over seeds.
        macro_f1: F1 of each label that occurs in the test items, averaged over labels; mean over seeds.
        low: Lower end of the 95 % interval of the accuracy: the test sentences are drawn again, the same ones for all
            seeds. It says what other sentences might have given, not other training sets.
        high: Upper end.
        majority: Accuracy of always saying the most frequent label of the training items.
        control: Accuracy of a probe that was trained on random labels of word types, on these; None where not measured.
        by_seed: Accuracy of each seed. A seed decides which sentences are held out and which items are trained on.
        items: Test items, mean over seeds.
    """

    accuracy: float
    macro_f1: float
    low: float
    high: float
    majority: float
    control: float | None
    by_seed: tuple[float, ...]
    items: float

    @property
    def selectivity(self) -> float | None:
        """Accuracy minus that of the control task; None where that was not measured."""
        return None if self.control is None else self.accuracy - self.control

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "by_seed": list(self.by_seed)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProbeScore:
        """The reverse of `to_dict`.

        Raises:
            InputError: A figure is missing or is none.
        """
        try:
            figures = {name: _finite(values[name]) for name in _FIGURES}
            control = None if values["control"] is None else _finite(values["control"])
            by_seed = tuple(_finite(value) for value in values["by_seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"A score needs the figures {', '.join(_FIGURES)}, control and by_seed ({error!r}). Read a report that "
                "`to_dict` wrote."
            ) from error
        return cls(**figures, control=control, by_seed=by_seed)


_FIGURES = ("accuracy", "macro_f1", "low", "high", "majority", "items")


class Tally:
    """Counts of one cell while seeds come in."""

    def __init__(self) -> None:
        self._right: list[NDArray[np.float64]] = []
        self._all: list[NDArray[np.float64]] = []
        self._f1: list[float] = []
        self._majority: list[float] = []
        self._control: list[float] = []

    def add(
        self,
        truth: Sequence[str] | NDArray[np.str_],
        predicted: NDArray[np.str_],
        groups: NDArray[np.int64],
        *,
        most_frequent: str,
    ) -> None:
        """Take the predictions of one seed.

        Args:
            truth: Labels of the test items.
            predicted: What the probe says.
            groups: Sentence of each item.
            most_frequent: The most frequent label of the training items.
        """
        metrics = require("sklearn.metrics", extra="probing", feature="Scoring a probe")
        labels = np.asarray(truth)
        self._right.append(np.bincount(groups, weights=(labels == predicted).astype(np.float64)).astype(np.float64))
        self._all.append(np.bincount(groups).astype(np.float64))
        present = np.unique(labels)
        f1 = metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
        self._f1.append(float(f1))
        self._majority.append(float(np.mean(labels == most_frequent)))

    def add_control(self, truth: Sequence[str], predicted: NDArray[np.str_]) -> None:
        """Take what the probe of the control task says in one seed."""
        self._control.append(float(np.mean(np.asarray(truth) == predicted)))

    def score(self) -> ProbeScore:
        """The figures over all seeds.

        Raises:
            CorpusError: Nothing was added.
        """
        if not self._all:
            raise CorpusError("There are no test items to score.")
        by_seed = [float(right.sum() / total.sum()) for right, total in zip(self._right, self._all, strict=True)]
        low, high = self._interval()
        return ProbeScore(
            accuracy=float(np.mean(by_seed)),
            macro_f1=float(np.mean(self._f1)),
            low=low,
            high=high,
            majority=float(np.mean(self._majority)),
            control=float(np.mean(self._control)) if self._control else None,
            by_seed=tuple(by_seed),
            items=float(np.mean([total.sum() for total in self._all])),
        )

    def _interval(self) -> tuple[float, float]:
        """Percentile bootstrap over sentences of the mean accuracy over seeds."""
        size = max(map(len, self._all))
        right = np.stack([np.pad(one, (0, size - len(one))) for one in self._right], axis=1)
        total = np.stack([np.pad(one, (0, size - len(one))) for one in self._all], axis=1)
        tested = total.any(axis=1)
        draws = _draws(int(tested.sum()))
        sums = draws @ total[tested]
        with np.errstate(invalid="ignore"):
            shares = np.where(sums > 0, draws @ right[tested] / sums, np.nan)
        known = shares[~np.isnan(shares).all(axis=1)]
        low, high = np.quantile(np.nanmean(known, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


@lru_cache(maxsize=8)
def _draws(count: int) -> NDArray[np.float64]:
    """How often each of `count` sentences is drawn: (samples, count); cells of as many sentences are paired."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _SAMPLES).astype(np.float64)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r:.40}")
    return float(value)

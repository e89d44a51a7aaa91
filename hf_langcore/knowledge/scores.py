"""One entry and how likely the model found its alternatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One entry; the right alternative comes first.

    Attributes:
        language: Its code.
        group: Kind of the fact, or phenomenon of the pair.
        name: Of the fact, or the grammatical sentence.
        texts: The alternatives.
        log_likelihoods: Of each alternative, in nats.
    """

    language: str
    group: str
    name: str
    texts: tuple[str, ...]
    log_likelihoods: tuple[float, ...]

    def credit(self, *, per_byte: bool = False) -> float:
        """1 where the right alternative is the likeliest, 0 where it is not; those that tie share it."""
        values = self._values(per_byte=per_byte)
        best = max(values)
        return float(values[0] == best) / values.count(best)

    def margin(self, *, per_byte: bool = False) -> float:
        """How much likelier the right alternative is than the others are on average, in nats (per byte)."""
        right, *wrong = self._values(per_byte=per_byte)
        mean = sum(wrong) / len(wrong)
        return 0.0 if right == mean else right - mean  # also where both are minus infinity

    @property
    def chance(self) -> float:
        """What a model earns that tells nothing apart."""
        return 1 / len(self.log_likelihoods)

    def _values(self, *, per_byte: bool) -> list[float]:
        if not per_byte:
            return list(self.log_likelihoods)
        return [value / len(text.encode()) for value, text in zip(self.log_likelihoods, self.texts, strict=True)]


class FactScore(Alternatives):
    """A fact; `group` is its kind."""

    __slots__ = ()


class PairScore(Alternatives):
    """A minimal pair; `group` is its phenomenon."""

    __slots__ = ()


def lifts(facts: Iterable[FactScore]) -> list[tuple[str, float]]:
    """What its own prompt adds to the log-likelihood of a right completion, beside the prompts after which it is wrong.

    How frequent a word is cancels, so that this tells knowledge from habit entry by entry, where a margin does so only on
    average. Facts are compared within their language and kind; those whose completion is nowhere wrong are left out.

    Returns:
        Name of the fact and nats.
    """
    elsewhere: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    listed = list(facts)
    for one in listed:
        for text, value in list(zip(one.texts, one.log_likelihoods, strict=True))[1:]:
            elsewhere[one.language, one.group, text].append(value)
    found = []
    for one in listed:
        others = elsewhere.get((one.language, one.group, one.texts[0]))
        if others:
            own, mean = one.log_likelihoods[0], sum(others) / len(others)
            found.append((one.name, 0.0 if own == mean else own - mean))
    return found

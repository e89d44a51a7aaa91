"""How several sources of general data share what is mixed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from hf_langcore.data.rows import Rows
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

General: TypeAlias = "Rows | Mapping[str, Rows] | Sequence[Rows]"
Weights: TypeAlias = "Mapping[str, float] | Sequence[float]"

TASK = "task"
"""The name of the task rows among the sources of a mixture."""


def named_sources(general: General) -> dict[str, Rows]:
    """General data as name -> rows.

    Args:
        general: One data set or what `load_rows` reads (a file, a folder, a Hub spec), which is called "general"; a mapping from names to data sets; or a list of them, which
            are called "general 1", "general 2" and so on.

    Raises:
        CorpusError: There is no source, or the splits of one data set came instead of sources.
        InputError: A source has the name of the task rows.
    """
    if isinstance(general, Mapping):
        _refuse_splits(general)
        sources = dict(general)
    elif isinstance(general, (list, tuple)):
        sources = {f"general {number}": rows for number, rows in enumerate(general, 1)}
    else:
        sources = {"general": general}
    if not sources:
        raise CorpusError("general names no source; pass at least one data set, or train without general data.")
    if TASK in sources:
        raise InputError(
            f"A source of general data is called {TASK!r}, which is the name of the task rows; rename it."
        )
    return sources


def shares_of(names: Sequence[str], weights: Weights | None) -> list[Fraction]:
    """The part of all general data that each source makes up; the parts sum to exactly 1.

    Args:
        names: Names of the sources, in their order.
        weights: Name -> weight, or weights in the order of the sources; only their proportions matter. All sources
            have equal parts if None.

    Raises:
        ConfigurationError: The weights are not those of the sources.
        InputError: A weight is negative or no finite number, or all are zero.
    """
    if weights is None:
        return [Fraction(1, len(names))] * len(names)
    parts = [_fraction(name, weight) for name, weight in _by_name(names, weights).items()]
    if not any(parts):
        raise InputError("All weights of the general data are 0; at least one source has to have a positive weight.")
    return [part / sum(parts) for part in parts]


def exact(number: float) -> Fraction:
    """A number as it was written: 0.1 is a tenth here, which no binary number is."""
    return Fraction(str(float(number)))


def split_rows(count: int, shares: Sequence[Fraction]) -> list[int]:
    """Divide `count` rows by the largest remainder: each source gets its share, rounded up or down.

    Of equal remainders the first source's goes first.
    """
    due = [count * share for share in shares]
    counts = [math.floor(part) for part in due]
    by_remainder = sorted(range(len(shares)), key=lambda source: counts[source] - due[source])
    for source in by_remainder[: count - sum(counts)]:
        counts[source] += 1
    return counts


def next_source(counts: Sequence[int], shares: Sequence[Fraction]) -> int:
    """The source of the next row, so that after every row each source is less than one row off its share.

    This is the quota method of apportionment (Balinski and Young): where to stop need not be known beforehand.

    Args:
        counts: Rows that have come from each source.
        shares: The part of each source.
    """
    total = sum(counts) + 1
    due = [source for source, share in enumerate(shares) if counts[source] < share * total]
    return max(due, key=lambda source: shares[source] / (counts[source] + 1))


def _by_name(names: Sequence[str], weights: Weights) -> dict[str, float]:
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            raise ConfigurationError(
                f"The weights are for the sources {sorted(weights)}, and the general data has {sorted(names)}; give one "
                "weight for each source."
            )
        return {name: weights[name] for name in names}
    if len(weights) != len(names):
        raise ConfigurationError(
            f"There are {len(weights)} weights for {len(names)} sources of general data ({', '.join(names)}); give one "
            "weight for each source, in their order."
        )
    return dict(zip(names, weights, strict=True))


def _fraction(name: str, weight: float) -> Fraction:
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not (is_number and math.isfinite(weight) and weight >= 0):
        raise InputError(
            f"The weight of the general source {name!r} must be a finite number of at least 0, got {weight!r}."
        )
    return exact(weight)


def _refuse_splits(general: Mapping[str, Rows]) -> None:
    """A DatasetDict is a mapping too, but its splits are parts of one source."""
    from datasets import DatasetDict, IterableDatasetDict

    if isinstance(general, (DatasetDict, IterableDatasetDict)):
        raise CorpusError(
            f"The general data holds the splits {sorted(general)} of one data set; pass one of them, such as "
            f"data[{next(iter(general), 'train')!r}], or dict(data) if they really are sources of their own."
        )

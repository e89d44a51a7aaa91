"""Which rows of each source of general data go into an epoch, in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hf_langcore.data.shares import exact, split_rows
from hf_langcore.errors import CorpusError, InputError

MixBy = Literal["rows", "tokens"]
Indices = NDArray[np.int64]

NO_TOKENS = "There is no token in any row of {name}, so no ratio of tokens can be reached."

logger = logging.getLogger(__name__)


def check_mixture(*, ratio: float, by: str = "rows", seed: int = 0, epoch: int = 0) -> None:
    """Refuse options that no mixture can have.

    Raises:
        InputError: One is out of range; the message says which.
    """
    if not (isinstance(ratio, (int, float)) and math.isfinite(ratio) and ratio >= 0):
        raise InputError(f"ratio is general data per task data: a finite number of at least 0, got {ratio!r}.")
    if by not in get_args(MixBy):
        raise InputError(f"by must be one of {list(get_args(MixBy))}, got {by!r}.")
    for name, value in (("seed", seed), ("epoch", epoch)):
        if value < 0:
            raise InputError(f"{name} must be at least 0, got {value!r}.")


def counts_by_rows(
    num_task: int, sources: Mapping[str, int], *, ratio: float, shares: Sequence[Fraction]
) -> dict[str, int]:
    """How many rows of each source go with `num_task` task rows.

    Args:
        num_task: Number of task rows.
        sources: Name -> number of rows that there are.
        ratio: General rows of all sources together per task row.
        shares: The part of each source.

    Returns:
        Name -> rows; they sum to round(ratio * num_task), and each source has its share, rounded up or down.

    Raises:
        InputError: `ratio` is out of range.
        CorpusError: A source has no rows.
    """
    check_mixture(ratio=ratio)
    for name, available in sources.items():
        _require_rows(name, available)
    counts = dict(zip(sources, split_rows(round(ratio * num_task), shares), strict=True))
    _warn_of_repetition(counts, sources)
    return counts


def counts_by_tokens(
    task_tokens: int,
    sources: Mapping[str, int],
    size: Callable[[str, int], int],
    *,
    ratio: float,
    shares: Sequence[Fraction],
    seed: int = 0,
    epoch: int = 0,
) -> dict[str, int]:
    """How many rows of each source have to be drawn until its tokens reach its share of `ratio * task_tokens`.

    Args:
        task_tokens: Tokens of all task rows.
        sources: Name -> number of rows that there are.
        size: Name of a source and index of a row -> its tokens.
        ratio: General tokens of all sources together per task token.
        shares: The part of each source.
        seed: Seed of the draw.
        epoch: Another epoch has another draw.

    Raises:
        InputError: `ratio`, `seed` or `epoch` is out of range.
        CorpusError: A source has no rows, or no tokens in them.
    """
    check_mixture(ratio=ratio, seed=seed, epoch=epoch)
    counts = {}
    for number, (name, available) in enumerate(sources.items()):
        wanted = shares[number] * exact(ratio) * task_tokens
        passes = _passes(name, available, seed=seed, epoch=epoch, number=number)
        counts[name] = _rows_until(wanted, passes, lambda index, name=name: size(name, index), name)  # type: ignore[misc]
    _warn_of_repetition(counts, sources)
    return counts


def draw_general(
    counts: Mapping[str, int], sources: Mapping[str, int], *, seed: int = 0, epoch: int = 0
) -> dict[str, Indices]:
    """The rows of each source in one epoch; where there are fewer, another permutation of all follows.

    Args:
        counts: Name -> rows that are wanted.
        sources: Name -> number of rows that there are.
        seed: Seed of the draw.
        epoch: Another epoch has another draw.

    Returns:
        Name -> indices into the rows of that source. None comes twice before all have come once.

    Raises:
        CorpusError: A source has no rows.
    """
    drawn = {}
    for number, (name, available) in enumerate(sources.items()):
        passes = _passes(name, available, seed=seed, epoch=epoch, number=number)
        parts = [next(passes) for _ in range(-(-counts[name] // available) or 1)]
        drawn[name] = np.concatenate(parts)[: counts[name]]
    return drawn


def in_one(drawn: Mapping[str, Indices], sources: Mapping[str, int]) -> Indices:
    """The drawn rows as indices into all sources, one after the other."""
    offsets = np.cumsum([0, *sources.values()])
    return np.concatenate([drawn[name] + offset for name, offset in zip(sources, offsets, strict=False)])


def mixed_order(num_task: int, sample: Indices, *, seed: int = 0, epoch: int = 0) -> Indices:
    """All task rows and the sampled general rows in one shuffled order.

    Returns:
        Indices into the task rows followed by the general rows.
    """
    together = np.concatenate([np.arange(num_task), sample + num_task])
    return np.random.default_rng([seed, epoch, 1]).permutation(together)


def _passes(name: str, available: int, *, seed: int, epoch: int, number: int) -> Iterator[Indices]:
    """Endless permutations of the rows of one source."""
    _require_rows(name, available)
    generator = np.random.default_rng([seed, epoch, 0, number])
    while True:
        yield generator.permutation(available)


def _rows_until(wanted: Fraction, passes: Iterator[Indices], size: Callable[[int], int], name: str) -> int:
    rows = tokens = 0
    for permutation in passes:
        for index in permutation.tolist():
            if tokens >= wanted:
                return rows
            rows += 1
            tokens += size(index)
        if not tokens:
            raise CorpusError(NO_TOKENS.format(name=name))
    raise AssertionError  # the passes never end


def _require_rows(name: str, available: int) -> None:
    if available < 1:
        raise CorpusError(f"{name} has no rows; pass general data, or train without it.")


def _warn_of_repetition(counts: Mapping[str, int], sources: Mapping[str, int]) -> None:
    for name, available in sources.items():
        if counts[name] > available:
            logger.warning(
                "The mixture needs %d rows of %s and there are %d: each comes %.3g times on average in one epoch. "
                "Pass more general data or a smaller ratio.",
                counts[name],
                name,
                available,
                counts[name] / available,
            )

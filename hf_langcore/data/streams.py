"""Mixtures that stream: general rows come when they are due, from every source in its share."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from datasets import DatasetInfo, Features, IterableDataset, Value
from datasets.iterable_dataset import ExamplesIterable

from hf_langcore.data.draws import NO_TOKENS
from hf_langcore.data.rows import Row, Rows, first_row
from hf_langcore.data.shares import TASK, exact, next_source
from hf_langcore.errors import CorpusError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """The order of a streaming mixture: task rows, each followed by the general rows that are due.

    Attributes:
        task: The task rows.
        sources: Name -> general rows.
        shares: The part of each source.
        ratio: General data of all sources per task data.
        by: "rows" or "tokens".
        size: A row -> what it counts.
        buffer_size: Rows in the shuffle buffer of a streaming data set.
        seed: Seed of samples and order.
        epoch: Another epoch has another sample and another order.
        source_column: Column that says where a row comes from; none if None.
    """

    task: Rows
    sources: dict[str, Rows]
    shares: list[Fraction]
    ratio: float
    by: str
    size: Callable[[Row], int]
    buffer_size: int
    seed: int
    epoch: int
    source_column: str | None = None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Task rows, each followed by general rows."""
        names = list(self.sources)
        passes = [self._endless(number) for number in range(len(names))]
        sizes, task_size = [0] * len(names), 0
        for row in self._shuffled(self.task, 0, 0):
            yield self._labelled(row, TASK)
            task_size += self.size(row)
            while (source := self._due(sizes, task_size)) is not None:
                more = next(passes[source])
                sizes[source] += self.size(more)
                yield self._labelled(more, names[source])

    def _due(self, sizes: list[int], task_size: int) -> int | None:
        """The source whose turn it is, or None when the next task row is due."""
        if self.by == "rows":
            return next_source(sizes, self.shares) if sum(sizes) < round(self.ratio * task_size) else None
        due = exact(self.ratio) * task_size
        missing = [share * due - size for share, size in zip(self.shares, sizes, strict=True)]
        furthest = max(range(len(missing)), key=missing.__getitem__)
        return furthest if missing[furthest] > 0 else None

    def _endless(self, number: int) -> Iterator[dict[str, Any]]:
        name, rows = list(self.sources.items())[number]
        total = 0
        for count in itertools.count(1):
            for row in self._shuffled(rows, count, number):
                total += self.size(row)
                yield row
            if not total:
                raise CorpusError(NO_TOKENS.format(name=name))
            if count == 1:
                logger.warning(
                    "The general data of a streaming mixture (%s) is used up and starts again, reshuffled.", name
                )

    def _shuffled(self, rows: Rows, count: int, number: int) -> Rows:
        seed = int(np.random.default_rng([self.seed, self.epoch, count, number]).integers(2**32))
        if isinstance(rows, IterableDataset):
            return rows.shuffle(seed=seed, buffer_size=self.buffer_size)
        return rows.shuffle(seed=seed, keep_in_memory=True)

    def _labelled(self, row: Row, name: str) -> dict[str, Any]:
        return dict(row) if self.source_column is None else {**row, self.source_column: name}


class _MixedExamples(ExamplesIterable):  # type: ignore[misc]
    """The hook through which `shuffle` and `set_epoch` of datasets reach the schedule, also behind a `map`."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(_numbered, {"schedule": schedule})

    def shuffle_data_sources(self, generator: np.random.Generator) -> _MixedExamples:
        schedule = self.kwargs["schedule"]
        drawn = int(deepcopy(generator).integers(2**31))
        return _MixedExamples(replace(schedule, epoch=schedule.epoch ^ drawn))


def mixed_stream(schedule: Schedule) -> IterableDataset:
    """The schedule as a data set.

    Raises:
        CorpusError: The task or a source has no rows.
    """
    for name, rows in {TASK: schedule.task, **schedule.sources}.items():
        first_row(rows, name=name)
    return IterableDataset(_MixedExamples(schedule), info=DatasetInfo(features=_features(schedule)))


def _numbered(schedule: Schedule) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(schedule.rows())


def _features(schedule: Schedule) -> Features | None:
    features = schedule.task.features
    if features is None or any(rows.features != features for rows in schedule.sources.values()):
        return None
    return Features({**features, **({schedule.source_column: Value("string")} if schedule.source_column else {})})

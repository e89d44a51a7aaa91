"""What training really consumed: rows and tokens of each source, counted where batches are made and steps are run.

A row says in one column where it comes from. The collator counts and hands the counts on beside the batch; the
trainer adds up those of the batches that it has trained on. So rows that were skipped on resuming, that a longer
epoch would still have brought, or that another process got are not counted, and those that accelerate repeats to
fill the last batch are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_langcore.data.blocks import IGNORED
from hf_langcore.data.rows import Row
from hf_langcore.data.shares import TASK

SOURCE_COLUMN = "source"
"""The name of a row's source or, in packed rows, one code for each token: see `token_codes`."""

COUNTS_KEY = "mixture_counts"
"""Key of the counts in a batch: int64, (rows of the batch or 1, sources, 3)."""

Counts = NDArray[np.int64]

_FIGURES = ("rows", "tokens", "trained_tokens")


@dataclass(frozen=True)
class SourceCount:
    """What came from one source.

    Attributes:
        rows: Rows that began; a packed row that is cut in two counts where it begins.
        tokens: Their tokens, after truncation.
        trained_tokens: Tokens that the loss was taken of. The first token of a row never is: nothing predicts it.
    """

    rows: int
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class MixtureReport:
    """What one epoch consists of.

    Attributes:
        epoch: Number of the epoch, from 0.
        task_rows: Task rows.
        general_rows: Rows of all sources of general data.
        task_tokens: Tokens of the task rows, after truncation.
        general_tokens: Tokens of the general rows, after truncation.
        sources: The same for "task" and for each source of general data.
    """

    epoch: int
    task_rows: int
    general_rows: int
    task_tokens: int
    general_tokens: int
    sources: Mapping[str, SourceCount]

    @classmethod
    def of(cls, epoch: int, names: Sequence[str], counts: Counts) -> MixtureReport:
        """The report of an epoch from its counts, (sources, 3)."""
        sources = {name: SourceCount(*map(int, row)) for name, row in zip(names, counts, strict=True)}
        general = [count for name, count in sources.items() if name != TASK]
        return cls(
            epoch=epoch,
            task_rows=sources[TASK].rows,
            general_rows=sum(count.rows for count in general),
            task_tokens=sources[TASK].tokens,
            general_tokens=sum(count.tokens for count in general),
            sources=sources,
        )


def token_codes(row: Row, numbers: Mapping[str, int]) -> list[int]:
    """One code for each token, which survives packing: twice the number of the source, plus 1 where the row begins."""
    code = 2 * numbers[row[SOURCE_COLUMN]]
    return [code + (position == 0) for position in range(len(row["input_ids"]))]


def count_row(row: Row, numbers: Mapping[str, int]) -> Counts:
    """Rows, tokens and trained tokens of each source in one prepared row, packed or not.

    Returns:
        int64, (sources, 3).
    """
    trained = np.asarray(row.get("labels", row["input_ids"])) != IGNORED
    lengths = row.get("seq_lengths") or [len(trained)]
    trained[np.cumsum([0, *lengths[:-1]])] = False
    counts = np.zeros((len(numbers), len(_FIGURES)), np.int64)
    source = row[SOURCE_COLUMN]
    if isinstance(source, str):
        counts[numbers[source]] = 1, len(trained), trained.sum()
        return counts
    number, begins = np.divmod(np.asarray(source), 2)
    for figure, chosen in enumerate((begins == 1, slice(None), trained)):
        counts[:, figure] = np.bincount(number[chosen], minlength=len(numbers))
    return counts


class SourceCollator:
    """Makes batches with another collator, and counts their sources.

    Args:
        collate: The collator; it does not see the column of the source.
        names: Names of the sources.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], names: Sequence[str]) -> None:
        self.collate = collate
        self._numbers = {name: number for number, name in enumerate(names)}

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """Make a batch of the rows, with its counts."""
        counts = torch.from_numpy(np.stack([count_row(row, self._numbers) for row in rows]))
        batch = self.collate([{key: value for key, value in row.items() if key != SOURCE_COLUMN} for row in rows])
        # As many rows as the batch has, so that whoever slices a batch slices the counts with it.
        is_flat = len(batch["input_ids"]) != len(rows)
        batch[COUNTS_KEY] = counts.sum(0, keepdim=True) if is_flat else counts
        return batch


class Consumption:
    """Adds up what was trained, epoch by epoch; sums over processes only when it is asked for reports.

    Args:
        names: Names of the sources, "task" first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._earlier: dict[int, Counts] = {}
        self._here: dict[int, torch.Tensor] = {}
        self.epoch = 0

    def begin(self, epoch: int, earlier: Sequence[MixtureReport] = ()) -> None:
        """Start counting at an epoch, after what an interrupted run had consumed of it and of those before."""
        self.epoch = epoch
        self._here = {}
        self._earlier = {report.epoch: self._counts(report) for report in earlier}

    def add(self, counts: torch.Tensor) -> None:
        """Add the counts of a batch that was trained. Nothing waits for the device."""
        total = counts.sum(0)
        known = self._here.get(self.epoch)
        self._here[self.epoch] = total if known is None else known.add_(total)

    def reports(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> list[MixtureReport]:
        """What each epoch consumed.

        Args:
            reduce: Sums a tensor over all processes; every process has to ask for reports at the same time.
        """
        summed: dict[int, Counts] = dict(self._earlier)
        if self._here:
            stacked = reduce(torch.stack([self._here[epoch] for epoch in sorted(self._here)])).cpu().numpy()
            for epoch, counts in zip(sorted(self._here), stacked, strict=True):
                summed[epoch] = summed[epoch] + counts if epoch in summed else counts
        return [MixtureReport.of(epoch, self.names, summed[epoch]) for epoch in sorted(summed)]

    def _counts(self, report: MixtureReport) -> Counts:
        rows = [[getattr(report.sources[name], figure) for figure in _FIGURES] for name in self.names]
        return np.array(rows, np.int64)

"""The rows of each epoch: all task rows, and general rows that are drawn anew every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import pyarrow.compute
from datasets import Dataset
from torch.utils.data import Sampler

from hf_langcore.data.blocks import IGNORED
from hf_langcore.data.draws import Indices, counts_by_rows, counts_by_tokens, draw_general, in_one, mixed_order
from hf_langcore.data.mixture import joined
from hf_langcore.data.rows import unify
from hf_langcore.data.shares import TASK, Weights, shares_of
from hf_langcore.errors import CorpusError
from hf_langcore.training.consumption import SOURCE_COLUMN, Counts, MixtureReport


class EpochRows(Protocol):
    """Rows in one data set, and which of them each epoch takes."""

    rows: Dataset

    def order(self, epoch: int) -> Indices:
        """Indices into `rows` for one epoch, in the order of training; every epoch has as many."""

    def report(self, epoch: int) -> MixtureReport:
        """Rows and tokens of one epoch."""


class Mixture:
    """Prepared task and general rows in one data set, and which of them each epoch takes.

    Every epoch has the same number of rows of each source, because the Trainer plans its steps from the first.
    Counted by tokens, epoch 0 reaches the ratio exactly and later epochs take as many rows as it did.

    Args:
        task: Tokenised task rows.
        general: Tokenised general rows, or several sources by name.
        ratio: How many times as much general data as task data.
        by: "rows" or "tokens".
        seed: Seed of samples and order.
        weights: How the sources share the general data; equally if None.
        max_length: Tokens that count of a longer row, which packing is going to cut.

    Raises:
        CorpusError: Either side has no row with a trained token.
    """

    def __init__(
        self,
        task: Dataset,
        general: Dataset | Mapping[str, Dataset],
        *,
        ratio: float,
        by: str,
        seed: int,
        weights: Weights | None = None,
        max_length: int | None = None,
    ) -> None:
        sources = {"general": general} if isinstance(general, Dataset) else dict(general)
        for name, rows in {"train_dataset": task, **sources}.items():
            _require_rows(name, rows)
        names = [TASK, *sources]
        unified = dict(zip(names, unify(task, *sources.values(), names=names), strict=True))
        self.rows: Dataset = joined(unified, source_column=SOURCE_COLUMN)
        self.num_task = len(task)
        self.names = tuple(names)
        self._available = {name: len(rows) for name, rows in sources.items()}
        self._seed = seed
        self._lengths, self._trained = _sizes(self.rows)
        self._counted = self._lengths if max_length is None else np.minimum(self._lengths, max_length)
        self._count = self._rows_of_each(by, ratio, weights)

    def sample(self, epoch: int) -> Indices:
        """Indices into the general rows, one source after the other, for one epoch."""
        drawn = draw_general(self._count, self._available, seed=self._seed, epoch=epoch)
        return in_one(drawn, self._available)

    def order(self, epoch: int) -> Indices:
        """Indices into `rows` for one epoch, in the order of training."""
        return mixed_order(self.num_task, self.sample(epoch), seed=self._seed, epoch=epoch)

    def report(self, epoch: int) -> MixtureReport:
        """Count rows and tokens of one epoch."""
        chosen = [np.arange(self.num_task)]
        drawn = draw_general(self._count, self._available, seed=self._seed, epoch=epoch)
        offset = self.num_task
        for name, available in self._available.items():
            chosen.append(drawn[name] + offset)
            offset += available
        counts: Counts = np.array(
            [[len(rows), self._lengths[rows].sum(), self._trained[rows].sum()] for rows in chosen], np.int64
        )
        return MixtureReport.of(epoch, self.names, counts)

    def _rows_of_each(self, by: str, ratio: float, weights: Weights | None) -> dict[str, int]:
        shares = shares_of(list(self._available), weights)
        if by == "rows":
            return counts_by_rows(self.num_task, self._available, ratio=ratio, shares=shares)
        offsets = dict(zip(self._available, np.cumsum([self.num_task, *self._available.values()]), strict=False))
        return counts_by_tokens(
            int(self._counted[: self.num_task].sum()),
            self._available,
            lambda name, index: int(self._counted[offsets[name] + index]),
            ratio=ratio,
            shares=shares,
            seed=self._seed,
        )


class MixtureSampler(Sampler[int]):
    """Yields the rows of a mixture for the epoch that `set_epoch` has named; accelerate calls it."""

    def __init__(self, mixture: EpochRows) -> None:
        self.mixture = mixture
        self.epoch = 0
        self._length = len(mixture.order(0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from self.mixture.order(self.epoch).tolist()

    def __len__(self) -> int:
        return self._length


def _require_rows(name: str, rows: Dataset) -> None:
    if not len(rows):
        named = name if name == "train_dataset" else f"general_dataset ({name})"
        raise CorpusError(
            f"No row of {named} is left after preparation: it is empty, or max_length cuts every trained token "
            "off. Pass more rows or raise max_length."
        )


def _sizes(rows: Dataset) -> tuple[Indices, Indices]:
    """Tokens and trained tokens of every row, in Arrow, without making Python lists of the tokens."""
    table = rows.with_format("arrow")[:]
    lengths = np.asarray(pyarrow.compute.list_value_length(table["input_ids"]).to_numpy(), dtype=np.int64)
    if "labels" not in table.column_names:
        return lengths, np.maximum(lengths - 1, 0)
    flat = table["labels"].combine_chunks().flatten()
    trained = np.concatenate([[0], np.cumsum(flat.to_numpy() != IGNORED)])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # Nothing predicts the first token of a row.
    first = np.where(lengths > 0, trained[np.minimum(starts + 1, len(flat))] - trained[starts], 0)
    return lengths, trained[ends] - trained[starts] - first

"""The rows of each epoch: all task rows, and general rows that are drawn anew every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler

from hf_langcore.data.mixture import Indices, draw_general, general_sample, general_sample_by_tokens, mixed_order
from hf_langcore.data.rows import unify
from hf_langcore.errors import CorpusError


@dataclass(frozen=True)
class MixtureReport:
    """What one epoch consists of.

    Attributes:
        epoch: Number of the epoch, from 0.
        task_rows: Task rows.
        general_rows: General rows.
        task_tokens: Tokens of the task rows, after truncation.
        general_tokens: Tokens of the general rows, after truncation.
    """

    epoch: int
    task_rows: int
    general_rows: int
    task_tokens: int
    general_tokens: int


class Mixture:
    """Prepared task and general rows in one data set, and which of them each epoch takes.

    Every epoch has the same number of rows, because the Trainer plans its steps from the first. Counted by tokens,
    epoch 0 reaches the ratio exactly and later epochs take as many rows as it did.

    Args:
        task: Tokenised task rows.
        general: Tokenised general rows.
        ratio: How many times as much general data as task data.
        by: "rows" or "tokens".
        seed: Seed of samples and order.

    Raises:
        CorpusError: Either side has no row with a trained token.
    """

    def __init__(self, task: Dataset, general: Dataset, *, ratio: float, by: str, seed: int) -> None:
        for name, rows in (("train_dataset", task), ("general_dataset", general)):
            if not len(rows):
                raise CorpusError(
                    f"No row of {name} is left after preparation: it is empty, or max_length cuts every trained token "
                    "off. Pass more rows or raise max_length."
                )
        task, general = unify(task, general)
        self.rows: Dataset = concatenate_datasets([task, general])
        self.num_task = len(task)
        self._seed = seed
        self._lengths = _lengths(self.rows)
        self._count = len(self._first_sample(by, ratio))

    def sample(self, epoch: int) -> Indices:
        """Indices into the general rows for one epoch."""
        return draw_general(self._count, len(self.rows) - self.num_task, seed=self._seed, epoch=epoch)

    def order(self, epoch: int) -> Indices:
        """Indices into `rows` for one epoch, in the order of training."""
        return mixed_order(self.num_task, self.sample(epoch), seed=self._seed, epoch=epoch)

    def report(self, epoch: int) -> MixtureReport:
        """Count rows and tokens of one epoch."""
        general = self.sample(epoch) + self.num_task
        return MixtureReport(
            epoch=epoch,
            task_rows=self.num_task,
            general_rows=len(general),
            task_tokens=int(self._lengths[: self.num_task].sum()),
            general_tokens=int(self._lengths[general].sum()),
        )

    def _first_sample(self, by: str, ratio: float) -> Indices:
        task, general = self._lengths[: self.num_task], self._lengths[self.num_task :]
        if by == "rows":
            return general_sample(len(task), len(general), ratio=ratio, seed=self._seed)
        return general_sample_by_tokens(
            int(task.sum()), len(general), lambda index: int(general[index]), ratio=ratio, seed=self._seed
        )


class MixtureSampler(Sampler[int]):
    """Yields the rows of a mixture for the epoch that `set_epoch` has named; accelerate calls it."""

    def __init__(self, mixture: Mixture) -> None:
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


def _lengths(rows: Dataset) -> Indices:
    """Tokens of every row, read from the offsets of the Arrow lists without touching the tokens."""
    column = rows.with_format("arrow")[:]["input_ids"]
    return np.asarray(pyarrow.compute.list_value_length(column).to_numpy(), dtype=np.int64)

"""Packed mixtures: every epoch packs its own sample of general rows, into as many blocks as the others."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from trl import pack_dataset

from hf_langcore.data.draws import Indices
from hf_langcore.data.rows import Rows
from hf_langcore.training.consumption import SOURCE_COLUMN, Counts, MixtureReport, count_row, token_codes
from hf_langcore.training.sampling import Mixture

MOST_EPOCHS = 16
"""Samples that are packed beforehand; further epochs go through them again."""

_ROWS_PACKED_TOGETHER = 1000  # the batch of map in `datasets`, within which TRL packs a stream
_LISTS = ("input_ids", "labels", SOURCE_COLUMN)

logger = logging.getLogger(__name__)


class PackedMixture:
    """A mixture whose epochs are packed beforehand.

    The Trainer plans its steps from the first epoch, and other samples pack into a few blocks more or fewer. So the
    largest blocks of a shorter epoch are divided until all epochs have equally many; no token is lost or added.

    Args:
        mixture: The rows and the samples.
        epochs: How many epochs are going to be trained, if each has so many blocks.
        max_length: Tokens in a block.
        strategy: "bfd", "bfd_split" or "wrapped", as in TRL.
        seed: Seed of the order of the blocks.
    """

    def __init__(
        self, mixture: Mixture, *, epochs: Callable[[int], int], max_length: int, strategy: str, seed: int
    ) -> None:
        self._mixture = mixture
        self._seed = seed
        coded = with_token_codes(mixture.rows, mixture.names)

        def pack(epoch: int) -> Dataset:
            rows = coded.select(mixture.order(epoch))
            return pack_dataset(rows, max_length, strategy, {"desc": f"Packing epoch {epoch}"})

        first = pack(0)
        planned = epochs(len(first))
        packed = [first, *map(pack, range(1, min(planned, MOST_EPOCHS)))]
        if planned > MOST_EPOCHS:
            logger.warning(
                "%d epochs are planned and the general rows are sampled and packed anew for %d of them; the others go "
                "through these again.",
                planned,
                MOST_EPOCHS,
            )
        self._blocks = max(map(len, packed))
        self._epochs = len(packed)
        self.names = mixture.names
        self.rows: Dataset = concatenate_datasets([divided(rows, self._blocks) for rows in packed])

    def order(self, epoch: int) -> Indices:
        """Indices into `rows` for one epoch, in the order of training."""
        blocks = np.random.default_rng([self._seed, epoch, 2]).permutation(self._blocks)
        return blocks + self._blocks * (epoch % self._epochs)

    def report(self, epoch: int) -> MixtureReport:
        """Count rows and tokens of one epoch."""
        numbers = {name: number for number, name in enumerate(self.names)}
        counts: Counts = np.zeros((len(numbers), 3), np.int64)
        for row in self.rows.select(np.sort(self.order(epoch))):
            counts += count_row(row, numbers)
        return MixtureReport.of(epoch, self.names, counts)


def packed_stream(rows: Rows, names: tuple[str, ...], *, max_length: int, strategy: str, seed: int) -> Rows:
    """A streaming mixture in blocks, which keep the source of each token.

    "bfd" packs some rows at a time and leaves their blocks in the order of their rows' lengths, so that short rows
    would come last: the blocks are shuffled within as many.
    """
    packed = pack_dataset(with_token_codes(rows, names).select_columns(list(_LISTS)), max_length, strategy)
    return packed if strategy == "wrapped" else packed.shuffle(seed=seed, buffer_size=_ROWS_PACKED_TOGETHER)


def with_token_codes(rows: Rows, names: tuple[str, ...]) -> Rows:
    """Rows whose source is a code for each token instead of a name, so that packing carries it along."""
    numbers = {name: number for number, name in enumerate(names)}
    features = None
    if rows.features is not None:
        labels = {"labels": rows.features["input_ids"]}
        features = Features({**labels, **rows.features, SOURCE_COLUMN: List(Value("int16"))})
    return rows.map(
        lambda row: {"labels": row.get("labels") or row["input_ids"], SOURCE_COLUMN: token_codes(row, numbers)},
        features=features,
    )


def divided(packed: Dataset, blocks: int) -> Dataset:
    """The same tokens in exactly `blocks` blocks: the largest are divided, between two rows if one holds several.

    Args:
        packed: Blocks as `pack_dataset` makes them.
        blocks: How many there are to be; at least as many as there are.
    """
    missing = blocks - len(packed)
    if missing <= 0:
        return packed
    ranks = [_rank(block) for block in packed.remove_columns(["labels", SOURCE_COLUMN])]
    by_rank = sorted(range(len(packed)), key=ranks.__getitem__)
    chosen, kept = by_rank[:missing], sorted(by_rank[missing:])
    heap = [(_rank(row), number, row) for number, row in enumerate(packed.select(chosen))]
    heapq.heapify(heap)
    for number in range(missing):
        _, _, largest = heapq.heappop(heap)
        for half, part in enumerate(_halves(largest)):
            heapq.heappush(heap, (_rank(part), blocks + 2 * number + half, part))
    parts = Dataset.from_list([row for _, _, row in sorted(heap, key=lambda item: item[1])], features=packed.features)
    return concatenate_datasets([packed.select(kept), parts])


def _rank(block: dict[str, Any]) -> tuple[bool, int]:
    """Which block is divided first: one of several rows before one of a single row, and the largest of them."""
    return len(block.get("seq_lengths") or (0, 0)) == 1, -len(block["input_ids"])


def _halves(block: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A block as two: between the rows nearest to its middle, or in the middle of its only row."""
    size = len(block["input_ids"])
    lengths = block.get("seq_lengths")
    if lengths is None or len(lengths) == 1:
        cut = size // 2
        sides = [{name: block[name][part] for name in _LISTS} for part in (slice(cut), slice(cut, None))]
        more: list[dict[str, Any]] = (
            [{}, {}] if lengths is None else [{"seq_lengths": [cut]}, {"seq_lengths": [size - cut]}]
        )
    else:
        ends = np.cumsum(lengths[:-1])
        before = int(np.argmin(np.abs(ends - size / 2))) + 1
        cut = int(ends[before - 1])
        sides = [{name: block[name][part] for name in _LISTS} for part in (slice(cut), slice(cut, None))]
        more = [{"seq_lengths": lengths[:before]}, {"seq_lengths": lengths[before:]}]
    return sides[0] | more[0], sides[1] | more[1]

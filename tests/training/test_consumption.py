"""Counting rows, tokens and trained tokens of each source, batch by batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from hf_langcore.training.consumption import (
    COUNTS_KEY,
    SOURCE_COLUMN,
    Consumption,
    MixtureReport,
    SourceCollator,
    SourceCount,
    count_row,
    token_codes,
)

NUMBERS = {"task": 0, "wiki": 1}
ROW = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], SOURCE_COLUMN: "wiki"}


def test_a_row_counts_for_its_source() -> None:
    """The first token is never trained: nothing predicts it."""
    assert count_row(ROW, NUMBERS).tolist() == [[0, 0, 0], [1, 3, 2]]
    assert count_row({**ROW, "labels": [5, 6, 7]}, NUMBERS).tolist() == [[0, 0, 0], [1, 3, 2]]
    assert count_row({"input_ids": [5, 6], SOURCE_COLUMN: "task"}, NUMBERS).tolist() == [[1, 2, 1], [0, 0, 0]]


def test_codes_survive_packing() -> None:
    """A block of the end of one row, a whole row and the beginning of a third."""
    whole = token_codes(ROW, NUMBERS)
    assert whole == [3, 2, 2]
    block: dict[str, Any] = {"input_ids": [1] * 6, "labels": [1] * 6, SOURCE_COLUMN: [0, 0, *whole, 1]}
    assert count_row(block, NUMBERS).tolist() == [[1, 3, 2], [1, 3, 3]]
    # Without crossing borders, the first token of every row of the block is not trained either.
    assert count_row({**block, "seq_lengths": [2, 3, 1]}, NUMBERS).tolist() == [[1, 3, 1], [1, 3, 2]]


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_collator_counts_and_hides_the_source(padding_free: bool) -> None:
    """Batches are as without it, with counts for each of their rows."""
    plain = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free)
    rows = [ROW, {"input_ids": [8, 9], "labels": [8, 9], SOURCE_COLUMN: "task"}]
    batch = SourceCollator(plain, list(NUMBERS))(rows)
    counts = batch.pop(COUNTS_KEY)
    expected = plain([{key: value for key, value in row.items() if key != SOURCE_COLUMN} for row in rows])
    assert batch.keys() == expected.keys()
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert len(counts) == len(batch["input_ids"])
    assert counts.sum(0).tolist() == [[1, 2, 1], [1, 3, 2]]


def test_epochs_add_up_over_batches_and_processes() -> None:
    """What an interrupted run had consumed comes first; the sum over processes is taken once."""
    counts = torch.tensor([[[1, 4, 3], [0, 0, 0]], [[0, 0, 0], [1, 5, 4]]])
    consumption = Consumption(["task", "wiki"])
    earlier = MixtureReport.of(0, consumption.names, counts.sum(0).numpy())
    consumption.begin(0, [earlier])
    consumption.add(counts)
    consumption.add(counts[:1])
    consumption.epoch = 1
    consumption.add(counts[1:])
    for _ in range(2):  # asking changes nothing
        first, second = consumption.reports(lambda summed: 2 * summed)
        assert first.sources == {"task": SourceCount(5, 20, 15), "wiki": SourceCount(3, 15, 12)}
        assert second.sources == {"task": SourceCount(0, 0, 0), "wiki": SourceCount(2, 10, 8)}
    assert (first.task_rows, first.general_rows, first.task_tokens, first.general_tokens) == (5, 3, 20, 15)
    consumption.begin(0)
    assert consumption.reports(lambda summed: summed) == []

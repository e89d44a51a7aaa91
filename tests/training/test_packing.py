"""Blocks are divided without losing a token."""

from __future__ import annotations

from itertools import chain

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from hf_langcore.training.packing import MOST_EPOCHS, PackedMixture, divided, with_token_codes
from hf_langcore.training.sampling import Mixture


def rows(lengths: list[int], *, source: str = "task") -> Dataset:
    return Dataset.from_list(
        [
            {"input_ids": [number] * size, "labels": [number] * size, "source": source}
            for number, size in enumerate(lengths, 1)
        ]
    )


def mixture(seed: int = 0) -> Mixture:
    task = rows([3, 5, 7]).remove_columns("source")
    general = rows([index % 9 + 2 for index in range(40)]).remove_columns("source")
    return Mixture(task, general, ratio=4, by="rows", seed=seed)


@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), more=st.integers(0, 6))
@settings(max_examples=12, deadline=None)
def test_tokens_and_rows_stay_in_their_order(strategy: str, lengths: list[int], more: int) -> None:
    """More blocks, the same tokens with the same sources, and no row divided as long as blocks hold several."""
    coded = with_token_codes(rows(lengths), ("task",)).select_columns(["input_ids", "labels", "source"])
    packed = pack_dataset(coded, 12, strategy)
    wanted = min(len(packed) + more, len(lengths) if strategy == "bfd" else sum(lengths))
    parts = divided(packed, max(wanted, len(packed)))
    assert len(parts) == max(wanted, len(packed))
    assert parts.features == packed.features
    for name in ("input_ids", "labels", "source"):
        assert sorted(chain(*parts[name])) == sorted(chain(*packed[name]))
    assert all(row["input_ids"] for row in parts)
    if strategy == "bfd":
        assert sorted(chain(*parts["seq_lengths"])) == sorted(lengths)
        assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) for row in parts)


def test_a_single_row_is_divided_where_nothing_else_is_left() -> None:
    """In the middle; its lengths follow."""
    packed = pack_dataset(with_token_codes(rows([8]), ("task",)).select_columns(["input_ids", "labels", "source"]), 8)
    assert sorted(divided(packed, 3)["seq_lengths"]) == [[2], [2], [4]]


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_epochs_are_equally_long_and_different(strategy: str) -> None:
    """Each has its own sample, its own part of the rows, and its own order."""
    packed = PackedMixture(mixture(), epochs=lambda _: 4, max_length=16, strategy=strategy, seed=0)
    orders = [packed.order(epoch).tolist() for epoch in range(4)]
    assert sorted(chain(*orders)) == list(range(len(packed.rows)))
    assert len({len(order) for order in orders}) == 1
    assert orders[0] != sorted(orders[0])
    reports = [packed.report(epoch).sources for epoch in range(4)]
    assert all((report["task"].rows, report["general"].rows) == (3, 12) for report in reports)
    assert len({report["general"].tokens for report in reports}) > 1


def test_very_many_epochs_go_through_the_packed_ones_again(caplog: pytest.LogCaptureFixture) -> None:
    """In another order; a warning says so."""
    packed = PackedMixture(mixture(), epochs=lambda _: 100, max_length=16, strategy="bfd", seed=0)
    assert "100 epochs are planned" in caplog.text
    again = packed.order(MOST_EPOCHS)
    assert sorted(again.tolist()) == sorted(packed.order(0).tolist())
    assert again.tolist() != packed.order(0).tolist()


def test_the_number_of_epochs_may_depend_on_their_length() -> None:
    """Steps are planned by blocks, which are known when the first epoch is packed."""
    asked: list[int] = []
    packed = PackedMixture(
        mixture(), epochs=lambda blocks: asked.append(blocks) or 1, max_length=16, strategy="bfd", seed=0
    )
    assert asked == [len(packed.rows)]

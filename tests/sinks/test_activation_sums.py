"""Running extremes and means do not depend on how the text is cut into batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.sinks.activation_sums import Extremes, Notes, massive_entries
from hf_langcore.sinks.residual import Batch


def batch_of(windows: int, tokens: int, present: torch.Tensor | None = None, *, seed: int = 0) -> Batch:
    ids = torch.randint(3, 90, (windows, tokens), generator=torch.Generator().manual_seed(seed))
    return Batch(ids, present, continues=False)


def spiked(seed: int, windows: int = 3, tokens: int = 5, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(windows, tokens, width, generator=generator)
    hidden[0, 0, 2] = -200.0 - seed
    hidden[2, 3, 2] = 150.0
    hidden[1, 0, 5] = 500.0
    return hidden


def test_massive_is_relative_to_the_median_of_the_own_window() -> None:
    hidden = torch.ones(2, 3, 4)
    hidden[1] *= 100
    hidden[:, 1, 2] = 1000
    massive, medians = massive_entries(hidden, batch_of(2, 3), 50.0, 0.0)
    assert medians.tolist() == [1.0, 100.0]
    assert massive.nonzero().tolist() == [[0, 1, 2]]
    assert not massive_entries(hidden, batch_of(2, 3), 50.0, 1001.0)[0].any()
    assert massive_entries(hidden, batch_of(2, 3), 50.0, 1000.0)[0].nonzero().tolist() == [[0, 1, 2]]


def test_padding_is_neither_massive_nor_part_of_the_median() -> None:
    hidden = torch.ones(1, 4, 3)
    hidden[0, 2:] = 1e6
    present = torch.tensor([[1, 1, 0, 0]])
    massive, medians = massive_entries(hidden, batch_of(1, 4, present), 10.0, 0.0)
    assert medians.tolist() == [1.0]
    assert not massive.any()


def test_nothing_is_massive_where_all_is_zero() -> None:
    assert not massive_entries(torch.zeros(1, 2, 3), batch_of(1, 2), 10.0, 0.0)[0].any()


@given(st.integers(0, 1000))
def test_extremes_are_those_of_all_batches_together(seed: int) -> None:
    hidden, batch = spiked(seed), batch_of(3, 5, seed=seed)
    whole, parts = Extremes(hidden), Extremes(hidden)
    whole.add(hidden, batch, 50.0, 0.0)
    for row in range(3):
        parts.add(hidden[row : row + 1], Batch(batch.ids[row : row + 1], None, continues=False), 50.0, 0.0)
    assert whole.found() == parts.found()
    rows = {row[0]: row[1:] for row in whole.found()}
    median = float(hidden[0].abs().flatten().median())
    assert rows[2] == (-200.0 - seed, pytest.approx(median), 2, 1)
    assert rows[5][0] == 500.0
    assert set(rows) == {2, 5}


@given(st.integers(0, 1000), st.sampled_from(["massive", "start", "all"]))
def test_means_are_those_of_all_batches_together(seed: int, positions: str) -> None:
    hidden, batch = spiked(seed), batch_of(3, 5, seed=seed)
    whole, parts = (Notes({0: (2, 5, 7)}, positions, 50.0, 0.0) for _ in range(2))
    whole.add(0, hidden, batch)
    whole.add(1, hidden, batch)  # a layer that was not asked for
    for row in range(3):
        parts.add(0, hidden[row : row + 1], Batch(batch.ids[row : row + 1], None, continues=False))
    for one, other in ((whole.start_means(), parts.start_means()), (whole.other_means(), parts.other_means())):
        assert list(one) == [0]
        assert one[0] == pytest.approx(other[0])
    assert whole.prefixes() == parts.prefixes()
    starts, others = whole.start_means()[0], whole.other_means()[0]
    if positions == "massive":
        assert starts == (-200.0 - seed, 500.0, None)
        assert others == (150.0, None, None)
        hashes = batch.prefixes()
        assert whole.prefixes() == {(0, 2): {hashes[0][0], hashes[2][3]}, (0, 5): {hashes[1][0]}}
    else:
        assert starts == pytest.approx(tuple(hidden[:, 0, [2, 5, 7]].double().mean(0).tolist()))
        rest = tuple(hidden[:, 1:, [2, 5, 7]].double().mean((0, 1)).tolist())
        assert others == (pytest.approx(rest) if positions == "all" else (None, None, None))


def test_dimensions_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="dimensions 0 to 7"):
        Notes({0: (8,)}, "all", 50.0, 0.0).add(0, spiked(0), batch_of(3, 5))

"""Streaming mixtures of several sources keep time with the task."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.data.mixture import mix_general_data
from hf_langcore.errors import CorpusError


def texts(count: int, *, prefix: str) -> Dataset:
    return Dataset.from_list([{"text": f"{prefix}{index}"} for index in range(count)])


def stream(ratio: float, weights: list[float], *, task: int = 10, **options: Any) -> Any:
    sources = {name: texts(40, prefix=name).to_iterable_dataset() for name in "abc"[: len(weights)]}
    rows = texts(task, prefix="t").to_iterable_dataset()
    return mix_general_data(rows, sources, ratio=ratio, weights=weights, source_column="source", **options)


@given(ratio=st.floats(0, 4), weights=st.lists(st.integers(1, 9), min_size=2, max_size=3), task=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_every_source_keeps_its_share_in_every_stretch(ratio: float, weights: list[int], task: int) -> None:
    """After k task rows round(ratio * k) general rows have come, each source less than one off its share."""
    seen: Counter[str] = Counter()
    for row in stream(ratio, weights, task=task):
        assert row["text"].startswith(row["source"][0])
        if row["source"] == "task":
            assert seen.total() - seen["task"] == round(ratio * seen["task"])
        seen[row["source"]] += 1
        total = seen.total() - seen["task"]
        for name, weight in zip("abc", weights, strict=False):
            assert abs(seen[name] - weight / sum(weights) * total) < 1 + 1e-9
    assert seen["task"] == task


def test_counted_by_tokens_every_source_reaches_its_share() -> None:
    """Rows of two tokens beside rows of five, half of the tokens each: never more than a row ahead."""
    rows = {"short": [1, 2], "long": [1, 2, 3, 4, 5]}
    sources = {name: Dataset.from_list([{"input_ids": ids}] * 50) for name, ids in rows.items()}
    task = Dataset.from_list([{"input_ids": [1] * 10}] * 4).to_iterable_dataset()
    tokens: Counter[str] = Counter()
    for row in mix_general_data(task, sources, ratio=2, by="tokens", source_column="source"):
        tokens[row["source"]] += len(row["input_ids"])
    assert tokens == {"task": 40, "short": 40, "long": 40}


def test_epochs_draw_again_with_the_same_shares() -> None:
    """Other rows of each source, as many of them."""
    mixed = stream(2, [3, 1])
    epochs = []
    for epoch in (0, 1, 0):
        mixed.set_epoch(epoch)
        epochs.append([(row["source"], row["text"]) for row in mixed])
    assert epochs[0] == epochs[2]
    assert set(epochs[0]) != set(epochs[1])
    assert [Counter(source for source, _ in rows) for rows in epochs] == [{"task": 10, "a": 15, "b": 5}] * 3


def test_an_empty_source_is_named_before_training() -> None:
    """Also in a stream, where nobody knows the length."""
    sources = {"a": texts(3, prefix="a"), "b": texts(3, prefix="b").to_iterable_dataset().filter(lambda row: False)}
    with pytest.raises(CorpusError, match="b has no rows"):
        mix_general_data(texts(2, prefix="t"), sources)

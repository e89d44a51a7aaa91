"""Which rows each epoch consists of."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.errors import CorpusError
from hf_langcore.training.consumption import MixtureReport, SourceCount
from hf_langcore.training.sampling import Mixture, MixtureSampler


def rows(count: int, *, length: int = 3, first: int = 0) -> Dataset:
    tokens = [[first + index] * length for index in range(count)]
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in tokens])


@given(task=st.integers(1, 20), general=st.integers(1, 20), ratio=st.floats(0, 8), epoch=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_an_epoch_is_the_task_and_the_ratio(task: int, general: int, ratio: float, epoch: int) -> None:
    """All task rows once, round(ratio * task) general rows, and nothing else."""
    mixture = Mixture(rows(task), rows(general, first=100), ratio=ratio, by="rows", seed=0)
    order = mixture.order(epoch).tolist()
    assert sorted(index for index in order if index < task) == list(range(task))
    assert len(order) - task == round(ratio * task)
    assert max(order) < task + general


def test_epochs_differ_and_repeat_exactly() -> None:
    """An epoch's rows depend on seed and epoch alone."""
    mixture = Mixture(rows(5), rows(50, first=100), ratio=2, by="rows", seed=1)
    again = Mixture(rows(5), rows(50, first=100), ratio=2, by="rows", seed=1)
    other = Mixture(rows(5), rows(50, first=100), ratio=2, by="rows", seed=2)
    assert mixture.order(3).tolist() == again.order(3).tolist()
    assert set(mixture.sample(0).tolist()) != set(mixture.sample(1).tolist())
    assert mixture.order(0).tolist() != other.order(0).tolist()


def test_tokens_are_counted_in_the_first_epoch_and_rows_in_the_others() -> None:
    """Six task tokens at ratio 2 want twelve general tokens: three rows of four, in every epoch."""
    mixture = Mixture(rows(2), rows(30, length=4, first=100), ratio=2, by="tokens", seed=0)
    sources = {"task": SourceCount(2, 6, 4), "general": SourceCount(3, 12, 9)}
    assert mixture.report(0) == MixtureReport(
        epoch=0, task_rows=2, general_rows=3, task_tokens=6, general_tokens=12, sources=sources
    )
    assert mixture.report(7).general_rows == 3


def test_a_small_general_set_repeats_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Each pass is another permutation; the warning comes once and not in every epoch."""
    with caplog.at_level(logging.WARNING):
        mixture = Mixture(rows(4), rows(3, first=100), ratio=2, by="rows", seed=0)
        samples = [mixture.sample(epoch).tolist() for epoch in range(3)]
    assert all(sorted(sample[:3]) == sorted(sample[3:6]) == [0, 1, 2] for sample in samples)
    assert [record.getMessage().count("2.67 times") for record in caplog.records] == [1]


def test_the_sampler_follows_set_epoch() -> None:
    """Length is fixed, order follows the epoch."""
    mixture = Mixture(rows(5), rows(50, first=100), ratio=2, by="rows", seed=1)
    sampler = MixtureSampler(mixture)
    assert len(sampler) == 15
    assert list(sampler) == mixture.order(0).tolist()
    sampler.set_epoch(4)
    assert list(sampler) == mixture.order(4).tolist()


def test_columns_of_one_side_do_not_become_empty_on_the_other() -> None:
    """Only input_ids, labels and the source are left, whatever else preparation kept."""
    mixture = Mixture(rows(2).add_column("note", ["a", "b"]), rows(2), ratio=1, by="rows", seed=0)
    assert mixture.rows.column_names == ["input_ids", "labels", "source"]
    assert all(None not in row.values() for row in mixture.rows)


@pytest.mark.parametrize(
    ("name", "named"),
    [("task", "train_dataset"), ("wiki", r"general_dataset \(wiki\)"), ("chat", r"general_dataset \(chat\)")],
)
def test_an_empty_side_is_named(name: str, named: str) -> None:
    """Which of them has no rows left decides what to mend."""
    sides = {"task": rows(2), "wiki": rows(2), "chat": rows(2)}
    sides[name] = sides[name].select([])
    task = sides.pop("task")
    with pytest.raises(CorpusError, match=f"No row of {named} is left"):
        Mixture(task, sides, ratio=1, by="rows", seed=0)


def test_several_sources_share_every_epoch() -> None:
    """Ten general rows, four to one, from their own parts of the rows, drawn anew in every epoch."""
    sources = {"wiki": rows(30, first=100), "chat": rows(30, length=5, first=200)}
    mixture = Mixture(rows(5), sources, ratio=2, by="rows", seed=0, weights=[4, 1])
    for epoch in range(3):
        chosen = mixture.rows.select(mixture.order(epoch))
        assert Counter(chosen["source"]) == {"task": 5, "wiki": 8, "chat": 2}
        for row in chosen:
            assert row["source"] == {0: "task", 1: "wiki", 2: "chat"}[row["input_ids"][0] // 100]
        assert mixture.report(epoch).sources == {
            "task": SourceCount(5, 15, 10),
            "wiki": SourceCount(8, 24, 16),
            "chat": SourceCount(2, 10, 8),
        }
    assert set(mixture.sample(0).tolist()) != set(mixture.sample(1).tolist())


def test_trained_tokens_are_those_that_something_predicts() -> None:
    """Neither ignored ones nor the first of a row, whatever its label."""
    task = Dataset.from_list(
        [
            {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
            {"input_ids": [5, 6], "labels": [5, 6]},
            {"input_ids": [7], "labels": [7]},
        ]
    )
    report = Mixture(task, rows(1), ratio=0, by="rows", seed=0).report(0)
    assert report.sources["task"] == SourceCount(3, 7, 3)


def test_tokens_behind_the_cut_do_not_count() -> None:
    """Packing is going to cut rows of nine tokens to four: two of them reach twice a task of four."""
    mixture = Mixture(rows(1, length=4), rows(9, length=9), ratio=2, by="tokens", seed=0, max_length=4)
    assert mixture.report(0).general_rows == 2

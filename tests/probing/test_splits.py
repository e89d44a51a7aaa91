"""Held-out sentences are the same in all languages, and nothing of them is trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.splits import control_labels, split_sentences, training_rows
from tests.probing.conftest import separable


def test_no_translation_of_a_test_sentence_is_trained_on() -> None:
    items = separable(40, languages="abc")
    split = split_sentences(items, test_share=0.25, seed=3)
    assert split.held_out.sum() == 10
    tested = {number for one in items.values() for number in one.groups[split.test_rows(one)].tolist()}
    rows = training_rows(items, ["a", "b", "c"], split, max_items=10_000)
    trained = {number for code, chosen in rows.items() for number in items[code].groups[chosen].tolist()}
    assert tested | trained == set(range(40))
    assert not tested & trained


def test_seeds_hold_out_other_sentences() -> None:
    items = separable(40)
    splits = [split_sentences(items, test_share=0.25, seed=seed).held_out for seed in (0, 0, 1)]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()


def test_training_items_are_shared_out_evenly() -> None:
    """Each language draws its own."""
    items = separable(40)
    split = split_sentences(items, test_share=0.25, seed=0)
    rows = training_rows(items, ["a", "b"], split, max_items=60)
    assert [len(chosen) for chosen in rows.values()] == [30, 30]
    assert all((np.diff(chosen) > 0).all() for chosen in rows.values())
    assert rows["a"].tolist() != rows["b"].tolist()
    assert not set(rows["a"]) & set(split.test_rows(items["a"]))


def test_more_sentences_include_those_of_fewer() -> None:
    items = separable(40)["a"]
    split = split_sentences({"a": items}, test_share=0.25, seed=0)
    few, more = split.few_rows(items, sentences=2), split.few_rows(items, sentences=5)
    assert (len(few), len(more)) == (10, 25)
    assert set(few) < set(more)
    assert not split.held_out[items.groups[more]].any()


def test_splits_that_leave_nothing() -> None:
    items = separable(1)
    with pytest.raises(CorpusError, match="'a' has no item outside"):
        training_rows(items, ["a"], split_sentences(items, test_share=0.5, seed=0), max_items=9)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="between 0 and 1"):
            split_sentences(items, test_share=share, seed=0)


def test_control_labels_belong_to_types_and_are_as_frequent() -> None:
    """One label a type, wherever it occurs; shares as of the true labels; another seed, other labels."""
    types = [f"word {number}" for number in range(3000)]
    labels = ["a"] * 80 + ["b"] * 20
    drawn = control_labels(types, labels, seed=0)
    assert control_labels(types[::-1], labels, seed=0) == drawn[::-1]
    assert Counter(drawn)["a"] / 3000 == pytest.approx(0.8, abs=0.03)
    other = control_labels(types, labels, seed=1)
    assert np.mean([x == y for x, y in zip(drawn, other, strict=True)]) == pytest.approx(0.68, abs=0.05)
    with pytest.raises(InputError, match="word type"):
        control_labels([], labels, seed=0)

"""Vectors and labels of a split, centred on request."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.errors import CorpusError
from hf_langcore.probing.folds import Fold
from hf_langcore.probing.splits import Split, split_sentences
from tests.probing.conftest import separable


def test_centring_takes_off_the_mean_of_what_is_not_held_out() -> None:
    """Each language its own, each layer its own."""
    items = separable(20, shift=50.0)
    split = split_sentences(items, test_share=0.2, seed=0)
    plain, centred = Fold(items, split), Fold(items, split, center=True)
    for language, one in items.items():
        rows = np.flatnonzero(~split.held_out[one.groups])
        for place in (0, 1, 0):
            np.testing.assert_array_equal(plain.vectors(language, place, rows), one.layers[place][rows])
            np.testing.assert_allclose(centred.vectors(language, place, rows).mean(axis=0), 0, atol=1e-4)
            held_out = centred.vectors(language, place, centred.test_rows(language))
            assert np.abs(held_out.mean(axis=0)).max() > 0.01


def test_rows_and_labels_keep_their_order() -> None:
    items = separable(20)
    fold = Fold(items, split_sentences(items, test_share=0.2, seed=0))
    rows = {"b": np.array([3, 1]), "a": np.array([7])}
    expected = [items["b"].layers[1][3], items["b"].layers[1][1], items["a"].layers[1][7]]
    np.testing.assert_array_equal(fold.stacked(1, rows), expected)
    assert fold.labels(rows) == [items["b"].labels[3], items["b"].labels[1], items["a"].labels[7]]


def test_a_language_without_held_out_items() -> None:
    items = separable(5)
    with pytest.raises(CorpusError, match="'a' has no item in the held-out sentences"):
        Fold(items, Split(np.zeros(5, bool), 0)).test_rows("a")

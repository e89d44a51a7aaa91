"""Prototypes, and draws of sentences that are parallel."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.prototypes import (
    frequent_labels,
    prototypes,
    sentence_draws,
    sentence_halves,
    weighted_prototypes,
)
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.treebanks import Sentence

VECTORS = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3) ** 2
LABELLED = Labelled(VECTORS, ("obj", "nsubj", "obj", "det", "nsubj"), np.array([0, 0, 1, 1, 2]))


def _bank(*names: str) -> list[Sentence]:
    return [Sentence(("a",), ("X",), (-1,), ("root",), None, name, 1) for name in names]


def test_means_by_label_and_layer() -> None:
    """Rare labels are left out; labels stand in alphabetical order."""
    found = prototypes(LABELLED, min_count=2)
    assert found.labels == frequent_labels(LABELLED, min_count=2) == ("nsubj", "obj")
    assert found.counts == (2, 2)
    np.testing.assert_allclose(found.layers[:, 0], VECTORS[:, [1, 4]].mean(1))
    np.testing.assert_allclose(found.layers[:, 1], VECTORS[:, [0, 2]].mean(1))
    assert prototypes(LABELLED, labels=["det"]).layers.shape == (2, 1, 3)


def test_what_is_not_there() -> None:
    with pytest.raises(CorpusError, match="no item of iobj"):
        prototypes(LABELLED, labels=["obj", "iobj"])
    with pytest.raises(CorpusError, match="9 times"):
        prototypes(LABELLED, min_count=9)
    with pytest.raises(InputError, match="at least 1"):
        prototypes(LABELLED, min_count=0)


def test_weights() -> None:
    """A sentence drawn twice counts twice; a label that a draw leaves out keeps its plain mean."""
    weights = np.array([[2.0, 0, 1, 5, 0], [0, 1, 0, 1, 3]])
    found = weighted_prototypes(LABELLED, ("nsubj", "obj"), weights)
    np.testing.assert_allclose(found[:, 0, 1], (2 * VECTORS[:, 0] + VECTORS[:, 2]) / 3)
    np.testing.assert_allclose(found[:, 0, 0], VECTORS[:, [1, 4]].mean(1))
    np.testing.assert_allclose(found[:, 1, 0], (VECTORS[:, 1] + 3 * VECTORS[:, 4]) / 4)


def test_parallel_sentences_are_drawn_together() -> None:
    """By their names, wherever they stand; others by themselves, also where a name stands twice in a treebank."""
    banks = {"en": _bank("a", "b", "c", ""), "de": _bank("c", "a", "x", "x")}
    draws = sentence_draws(banks, draws=200, seed=3)
    assert draws["en"].shape == draws["de"].shape == (200, 4)
    assert (draws["en"][:, 0] == draws["de"][:, 1]).all()
    assert (draws["en"][:, 2] == draws["de"][:, 0]).all()
    for one, other in ((draws["en"][:, 3], draws["de"][:, 3]), (draws["de"][:, 2], draws["de"][:, 3])):
        assert (one != other).any()
    every = np.column_stack([draws["en"], draws["de"][:, 2:]])
    assert (every.sum(1) == 6).all(), "as many as there are"
    assert abs(every.mean() - 1) < 1e-9
    assert (sentence_draws(banks, draws=200, seed=3)["en"] == draws["en"]).all()
    assert (sentence_draws(banks, draws=200, seed=4)["en"] != draws["en"]).any()


def test_halves() -> None:
    names = [f"s{number}" for number in range(41)]
    halves = sentence_halves({"en": _bank(*names), "de": _bank(*names[::-1])}, seed=0)
    assert halves["en"].sum() in {20, 21}
    assert (halves["en"] == halves["de"][::-1]).all()
    assert (sentence_halves({"en": _bank(*names)}, seed=1)["en"] != halves["en"]).any()

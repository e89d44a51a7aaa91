"""The linear probe."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.linear import fit_linear_probe
from tests.probing.conftest import separable

ITEMS = separable(60)["a"]


def test_a_probe_finds_what_is_there_and_no_more() -> None:
    """Layer 1 tells the labels apart, layer 0 is noise; units do not matter, since vectors are standardised."""
    train, test = slice(0, 200), slice(200, 300)
    truth = np.array(ITEMS.labels[test])
    accuracy = []
    for layer in (0, 1):
        probe = fit_linear_probe(ITEMS.layers[layer][train], ITEMS.labels[train], penalty=1.0)
        accuracy.append(np.mean(probe.predict(ITEMS.layers[layer][test]) == truth))
    assert accuracy[0] < 0.5
    assert accuracy[1] > 0.95
    scale = np.array([1e3, 1e-3, 1, 1, 1, 1], np.float32)
    scaled = fit_linear_probe(ITEMS.layers[1][train] * scale, ITEMS.labels[train], penalty=1.0)
    assert np.mean(scaled.predict(ITEMS.layers[1][test] * scale) == truth) == accuracy[1]


def test_the_most_frequent_label() -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert fit_linear_probe(vectors, ["a"] * 3 + ["b"] * 7).most_frequent == "b"


def test_stopping_early_is_noted_and_no_warning() -> None:
    vectors, labels = ITEMS.layers[0], ITEMS.labels
    assert not fit_linear_probe(vectors, labels, penalty=1e-3, max_iterations=1).is_converged
    assert fit_linear_probe(vectors, labels, penalty=1e3).is_converged


def test_weights_count() -> None:
    """Two labels on the same vectors: the heavier one wins."""
    vectors = np.tile(np.float32([[1.0], [2.0]]), (10, 1))
    labels = ["a", "a", "b", "b"] * 5
    heavy = np.where(np.array(labels) == "b", 5.0, 1.0)
    assert set(fit_linear_probe(vectors, labels, weights=heavy).predict(vectors)) == {"b"}


def test_a_stronger_penalty_gives_smaller_weights() -> None:
    norms = [
        np.linalg.norm(fit_linear_probe(ITEMS.layers[1], ITEMS.labels, penalty=penalty).classifier.coef_)
        for penalty in (1.0, 100.0)
    ]
    assert norms[1] < 0.5 * norms[0]


def test_what_cannot_be_trained_on() -> None:
    vectors = np.zeros((3, 2), np.float32)
    with pytest.raises(CorpusError, match="at least 2 labels"):
        fit_linear_probe(vectors, ["a"] * 3)
    assert set(fit_linear_probe(vectors, ["a"] * 3, least_labels=1).predict(vectors)) == {"a"}
    with pytest.raises(InputError, match="3 vectors and 2 labels"):
        fit_linear_probe(vectors, ["a", "b"])
    for wrong in ({"penalty": 0.0}, {"penalty": float("nan")}, {"max_iterations": 0}):
        with pytest.raises(InputError, match="must be positive"):
            fit_linear_probe(vectors, ["a", "b", "c"], **wrong)

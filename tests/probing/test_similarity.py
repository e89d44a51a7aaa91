"""Representational similarity against SciPy, and what it may not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import ortho_group, pearsonr, spearmanr

from hf_langcore.errors import InputError
from hf_langcore.probing.similarity import distance_matrices, permuted_profiles, profiles, similarity

DRAWS = np.random.default_rng(0)
ONE, OTHER = DRAWS.normal(size=(6, 9)) + 5, DRAWS.normal(size=(6, 4))


def test_distances_are_scipys() -> None:
    np.testing.assert_allclose(distance_matrices(ONE, distance="euclidean"), squareform(pdist(ONE)), atol=1e-7)
    centred = ONE - ONE.mean(0)
    np.testing.assert_allclose(distance_matrices(ONE), squareform(pdist(centred, "cosine")), atol=1e-9)
    with pytest.raises(InputError, match="'manhattan'"):
        distance_matrices(ONE, distance="manhattan")  # type: ignore[arg-type]


def test_correlations_are_scipys() -> None:
    """Of the upper triangles, ties included."""
    matrices = [np.round(distance_matrices(each), 1) for each in (ONE, OTHER)]
    upper = [each[np.triu_indices(6, 1)] for each in matrices]
    assert len(set(upper[0])) < len(upper[0])
    assert similarity(*matrices) == pytest.approx(spearmanr(*upper).statistic)
    assert similarity(*matrices, correlation="pearson") == pytest.approx(pearsonr(*upper).statistic)
    with pytest.raises(InputError, match="'kendall'"):
        profiles(matrices[0], correlation="kendall")  # type: ignore[arg-type]


def test_rotation_scale_and_shift_change_nothing() -> None:
    turned = 7 * ONE @ ortho_group(9, seed=1).rvs() + DRAWS.normal(size=9)
    for distance in ("cosine", "euclidean"):
        matrices = [distance_matrices(each, distance=distance) for each in (ONE, turned)]  # type: ignore[arg-type]
        assert similarity(*matrices) == pytest.approx(1.0)
    assert np.isnan(similarity(np.ones((4, 4)), distance_matrices(ONE[:4])))


def test_many_at_once() -> None:
    stack = DRAWS.normal(size=(2, 3, 6, 4))
    found = similarity(distance_matrices(stack), distance_matrices(OTHER))
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(similarity(distance_matrices(stack[1, 2]), distance_matrices(OTHER)))


def test_other_names() -> None:
    """A permuted profile is the profile of the permuted vectors."""
    orders = np.array([[0, 1, 2, 3, 4, 5], [3, 1, 4, 0, 5, 2]])
    own = profiles(distance_matrices(OTHER))
    found = permuted_profiles(own, orders)
    np.testing.assert_allclose(found[0], own)
    np.testing.assert_allclose(found[1], profiles(distance_matrices(OTHER[orders[1]])))

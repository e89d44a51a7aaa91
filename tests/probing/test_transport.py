"""Transport distance of labelled sets: known cases, and what it may not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
from scipy.stats import ortho_group

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.probing.transport import dataset_distance, label_distances

DRAWS = np.random.default_rng(0)
ONE = DRAWS.normal(size=(24, 4)) * (1, 2, 0.5, 1)
OTHER = DRAWS.normal(size=(30, 4)) + 0.5
LABELS, OTHER_LABELS = ["a", "b", "c"] * 8, ["a", "b", "c", "d", "e"] * 6


def _root(matrix: Any) -> Any:
    values, axes = np.linalg.eigh(matrix)
    return axes * np.sqrt(np.maximum(values, 0)) @ axes.T


def test_gaussians_by_the_formula() -> None:
    """Squared distance of the means and Bures distance of the covariances, with real roots of matrices."""
    for one, other in ((ONE, OTHER), (ONE[:2], OTHER)):
        mean = ((one.mean(0) - other.mean(0)) ** 2).sum()
        first, second = np.cov(one.T, bias=True), np.cov(other.T, bias=True)
        root = _root(first)
        bures = np.trace(first + second - 2 * _root(root @ second @ root))
        assert label_distances([one], [other])[0, 0] == pytest.approx(mean + bures, abs=1e-5)


def test_clouds_of_other_sizes_beside_it_change_nothing() -> None:
    clouds = [ONE[:5], ONE[5:], OTHER[:1]]
    found = label_distances(clouds, [OTHER, ONE[:2]])
    assert found.shape == (3, 2)
    assert found[1, 1] == pytest.approx(label_distances([ONE[5:]], [ONE[:2]])[0, 0])
    assert found[2, 0] == pytest.approx(label_distances([OTHER[:1]], [OTHER])[0, 0])


def test_a_set_beside_itself() -> None:
    for solver in ("exact", "sinkhorn"):
        own: Any = {"solver": solver}
        assert dataset_distance(ONE, LABELS, ONE[::-1], LABELS[::-1], **own) == pytest.approx(0, abs=1e-6)


def test_by_hand() -> None:
    """Two points against two: nearest costs 1 by its place, and 1 more since labels of one point are points, too."""
    one, other = np.array([[0.0], [10.0]]), np.array([[1.0], [11.0]])
    assert dataset_distance(one, ["a", "b"], other, ["x", "y"]) == pytest.approx(2.0)
    # With one label each, both clouds have the same spread and their means are 1 apart.
    assert dataset_distance(one, ["a", "a"], other, ["x", "x"]) == pytest.approx(2.0)
    # With labels that cross, each set is one point twice.
    crossed = dataset_distance(np.array([[0.0], [0.0]]), ["a", "b"], np.array([[3.0], [3.0]]), ["x", "x"])
    assert crossed == pytest.approx(18.0)


def test_exact_is_that_of_the_whole_cost() -> None:
    names, other_names = sorted(set(LABELS)), sorted(set(OTHER_LABELS))
    between = label_distances(
        [ONE[[one == name for one in LABELS]] for name in names],
        [OTHER[[one == name for one in OTHER_LABELS]] for name in other_names],
    )
    rows = [names.index(one) for one in LABELS]
    columns = [other_names.index(one) for one in OTHER_LABELS]
    cost = ot.dist(ONE, OTHER) + between[np.ix_(rows, columns)]
    assert dataset_distance(ONE, LABELS, OTHER, OTHER_LABELS) == pytest.approx(ot.emd2([], [], cost))


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
def test_what_it_may_not_depend_on(solver: Any) -> None:
    """Order, names of labels, which set comes first, and shifts and rotations of both; but on the labels it does."""

    def distance(one: Any, labels: Any, other: Any, other_labels: Any) -> float:
        return dataset_distance(one, labels, other, other_labels, solver=solver, regularisation=0.2)

    expected = distance(ONE, LABELS, OTHER, OTHER_LABELS)
    assert expected > 0.1
    near = pytest.approx(expected, rel=1e-5)
    assert distance(OTHER, OTHER_LABELS, ONE, LABELS) == near
    order = DRAWS.permutation(24)
    assert distance(ONE[order], [LABELS[place] for place in order], OTHER, OTHER_LABELS) == near
    assert distance(ONE, [{"a": "b", "b": "c", "c": "z"}[one] for one in LABELS], OTHER, OTHER_LABELS) == near
    turn, shift = ortho_group(4, seed=2).rvs(), 1000 * np.ones(4)
    assert distance(ONE @ turn + shift, LABELS, OTHER @ turn + shift, OTHER_LABELS) == near
    assert distance(3 * ONE, LABELS, 3 * OTHER, OTHER_LABELS) == pytest.approx(9 * expected, rel=1e-5)
    assert distance(ONE, DRAWS.permutation(LABELS), OTHER, OTHER_LABELS) != near
    assert distance(ONE + 1, LABELS, OTHER, OTHER_LABELS) != near


def test_sinkhorn_nears_exact() -> None:
    exact = dataset_distance(ONE, LABELS, OTHER, OTHER_LABELS)
    far, near = (
        dataset_distance(ONE, LABELS, OTHER, OTHER_LABELS, solver="sinkhorn", regularisation=strength)
        for strength in (1.0, 0.05)
    )
    assert abs(near - exact) < abs(far - exact)
    assert near == pytest.approx(exact, rel=0.2)


def test_bad_sets() -> None:
    for one, labels, other, options, words in (
        (ONE[:, :3], LABELS, OTHER, {}, "3 and of 4"),
        (ONE, LABELS[:-1], OTHER, {}, "23 labels"),
        (ONE[:0], [], OTHER, {}, "0 labels"),
        (ONE, LABELS, OTHER, {"solver": "fast"}, "'fast'"),
        (ONE, LABELS, OTHER, {"regularisation": 0.0}, "above 0"),
    ):
        with pytest.raises(InputError, match=words):
            dataset_distance(one, labels, other, OTHER_LABELS, **options)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match="layer"):
        dataset_distance(np.where(ONE > 1, np.nan, ONE), LABELS, OTHER, OTHER_LABELS)

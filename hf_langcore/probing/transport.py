"""Optimal-transport distance between labelled sets of vectors (Alvarez-Melis and Fusi 2020, "Geometric dataset distances").

Moving a vector costs its squared distance plus the squared Wasserstein distance between the clouds of the two labels, each
taken for a Gaussian. Labels themselves are never compared: two sets may name the same things differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.extras import require

Solver = Literal["exact", "sinkhorn"]


def dataset_distance(
    one: NDArray[np.floating],
    one_labels: Sequence[str],
    other: NDArray[np.floating],
    other_labels: Sequence[str],
    *,
    solver: Solver = "exact",
    regularisation: float = 0.1,
) -> float:
    """Squared transport distance between two labelled sets, each vector of a set weighing the same.

    Args:
        one: (items, width).
        one_labels: Label of each.
        other: (items, width), the same width.
        other_labels: Label of each; names need not be those of `one_labels`.
        solver: "exact", or "sinkhorn": smoothed by entropy and debiased, so that a set has distance 0 to itself.
        regularisation: Of "sinkhorn", as a share of the mean cost.

    Raises:
        InputError: Widths differ, a set is empty, has not one label for each vector, or an option is out of range.
        MissingExtraError: POT or SciPy is not installed.
        NonFiniteError: A vector is not finite, or the smoothed problem was not solved.
    """
    first, second = _Set(one, one_labels), _Set(other, other_labels)
    if first.vectors.shape[1] != second.vectors.shape[1]:
        raise InputError(
            f"Vectors of {first.vectors.shape[1]} and of {second.vectors.shape[1]} dimensions have no distance. Compare "
            "languages of one model and layer."
        )
    if solver not in get_args(Solver) or not regularisation > 0:
        raise InputError(
            f"solver is one of {', '.join(get_args(Solver))} and regularisation above 0, got {solver!r} and {regularisation!r}."
        )
    if solver == "exact":
        return _exact(_costs(first, second))
    costs = [_costs(first, second), _costs(first, first), _costs(second, second)]
    strength = regularisation * float(np.mean([cost.mean() for cost in costs]))
    across, *within = (_smoothed(cost, strength) for cost in costs)
    return across - sum(within) / 2


def label_distances(one: Sequence[NDArray[np.floating]], other: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Squared Wasserstein-2 distances between clouds, each as a Gaussian of its mean and covariance (Bures).

    No covariance is built: the trace of its root is the sum of the singular values of the product of the centred clouds,
    which are small. So it is exact in any number of dimensions.

    Args:
        one: Clouds, (items, width) each. A cloud of one vector has no spread.
        other: Clouds of the same width.

    Returns:
        (clouds of one, clouds of other).
    """
    (means, spread), (other_means, other_spread) = _clouds(one), _clouds(other)
    overlap = np.einsum("aid,bjd->abij", spread, other_spread, optimize=True)
    roots = np.linalg.svd(overlap, compute_uv=False).sum(-1)
    sizes = (spread**2).sum((1, 2))[:, None] + (other_spread**2).sum((1, 2))[None, :]
    return np.asarray(_squared_distances(means, other_means) + np.maximum(sizes - 2 * roots, 0.0))


class _Set:
    """Vectors, the number of each one's label, and the cloud of each label."""

    def __init__(self, vectors: NDArray[np.floating], labels: Sequence[str]) -> None:
        self.vectors = np.asarray(vectors, np.float64)
        if self.vectors.ndim != 2 or not len(self.vectors) or len(labels) != len(self.vectors):  # noqa: PLR2004
            raise InputError(
                f"A labelled set is (items, width) with one label for each item, got {self.vectors.shape} and {len(labels)} labels."
            )
        if not np.isfinite(self.vectors).all():
            raise NonFiniteError("A vector has NaN or infinity in it, and no distance to others. Leave its layer out.")
        names, self.numbers = np.unique(np.asarray(labels), return_inverse=True)
        self.clouds = [self.vectors[self.numbers == number] for number in range(len(names))]


def _clouds(clouds: Sequence[NDArray[np.floating]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means, and centred vectors over the root of their number, filled up with zeros, which add nothing."""
    most = max(map(len, clouds))
    means = np.stack([np.asarray(cloud, np.float64).mean(0) for cloud in clouds])
    spread = np.zeros((len(clouds), most, means.shape[1]))
    for place, cloud in enumerate(clouds):
        spread[place, : len(cloud)] = (cloud - means[place]) / np.sqrt(len(cloud))
    return means, spread


def _costs(one: _Set, other: _Set) -> NDArray[np.float64]:
    between = label_distances(one.clouds, other.clouds)
    return np.asarray(_squared_distances(one.vectors, other.vectors) + between[np.ix_(one.numbers, other.numbers)])


def _squared_distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    centre = one.mean(0)  # far from zero, squares of large numbers would cancel
    first, second = one - centre, other - centre
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :]
    return np.asarray(np.maximum(squares - 2 * first @ second.T, 0.0))


def _exact(cost: NDArray[np.float64]) -> float:
    ot = require("ot", extra="probing", feature="Optimal transport")
    return float(ot.emd2(_even(len(cost)), _even(cost.shape[1]), cost, numItermax=1_000_000))


def _smoothed(cost: NDArray[np.float64], strength: float) -> float:
    """The value of the smoothed problem, entropy included, so that debiasing is exact."""
    if strength <= 0:
        return 0.0
    ot = require("ot", extra="probing", feature="Optimal transport")
    rows, columns = _even(len(cost)), _even(cost.shape[1])
    plan = ot.sinkhorn(rows, columns, cost, strength, method="sinkhorn_log", numItermax=2000, stopThr=1e-8, warn=False)
    expected = np.outer(rows, columns)
    entropy = np.where(plan > 0, plan * np.log(np.where(plan > 0, plan, 1.0) / expected), 0.0).sum()
    value = float((plan * cost).sum() + strength * entropy)
    if not np.isfinite(value):
        raise NonFiniteError(
            "The smoothed transport problem was not solved. Raise regularisation, or take solver='exact'."
        )
    return value


def _even(count: int) -> NDArray[np.float64]:
    return np.full(count, 1 / count)

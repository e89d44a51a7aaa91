"""Representational similarity: do the prototypes of two languages lie alike among themselves?"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError
from hf_langcore.extras import require

Distance = Literal["cosine", "euclidean"]
Correlation = Literal["spearman", "pearson"]


def distance_matrices(vectors: NDArray[np.float64], *, distance: Distance = "cosine") -> NDArray[np.float64]:
    """Distances between the vectors of each set.

    Args:
        vectors: (..., labels, width).
        distance: "cosine" (1 - cosine; the mean of a set is taken off first, since hidden states share a large common
            part) or "euclidean".

    Returns:
        (..., labels, labels).

    Raises:
        InputError: There is no such distance.
    """
    if distance not in get_args(Distance):
        raise InputError(f"distance must be one of {', '.join(get_args(Distance))}, got {distance!r}.")
    centred = vectors - vectors.mean(-2, keepdims=True)
    if distance == "cosine":
        lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
        centred = centred / np.where(lengths > 0, lengths, 1.0)
        return np.asarray(1.0 - centred @ np.swapaxes(centred, -1, -2))
    squares = (centred**2).sum(-1)
    products = centred @ np.swapaxes(centred, -1, -2)
    return np.asarray(np.sqrt(np.maximum(squares[..., :, None] + squares[..., None, :] - 2 * products, 0.0)))


def profiles(matrices: NDArray[np.float64], *, correlation: Correlation = "spearman") -> NDArray[np.float64]:
    """What stands above the diagonal, standardised, so that the product of two profiles is their correlation.

    Args:
        matrices: (..., labels, labels), symmetric.
        correlation: "spearman" (of ranks; ties share theirs) or "pearson".

    Returns:
        (..., pairs of labels); NaN where all distances are the same.

    Raises:
        InputError: There is no such correlation.
    """
    if correlation not in get_args(Correlation):
        raise InputError(f"correlation must be one of {', '.join(get_args(Correlation))}, got {correlation!r}.")
    rows, columns = np.triu_indices(matrices.shape[-1], k=1)
    values = matrices[..., rows, columns]
    if correlation == "spearman":
        stats = require("scipy.stats", extra="probing", feature="Spearman correlation")
        values = stats.rankdata(values, axis=-1)
    centred = values - values.mean(-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.where(lengths > 0, lengths, np.nan))


def similarity(
    one: NDArray[np.float64], other: NDArray[np.float64], *, correlation: Correlation = "spearman"
) -> NDArray[np.float64]:
    """Correlation of the distances of two languages, over all pairs of labels (Kriegeskorte et al. 2008).

    Args:
        one: (..., labels, labels) as `distance_matrices` gives.
        other: The same of the other language, the same labels in the same order.
        correlation: As in `profiles`.

    Returns:
        (...); NaN where all distances of a language are the same.

    Raises:
        InputError: There is no such correlation.
    """
    first, second = (profiles(side, correlation=correlation) for side in (one, other))
    return np.asarray((first * second).sum(-1))


def permuted_profiles(profile: NDArray[np.float64], orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """A profile under other names of the labels.

    Args:
        profile: (pairs of labels,).
        orders: (draws, labels), permutations.

    Returns:
        (draws, pairs of labels).
    """
    labels = orders.shape[1]
    rows, columns = np.triu_indices(labels, k=1)
    square = np.zeros((labels, labels))
    square[rows, columns] = square[columns, rows] = profile
    return np.asarray(square[orders[:, rows], orders[:, columns]])

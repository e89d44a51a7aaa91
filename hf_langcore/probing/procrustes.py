"""Procrustes: can one rotation bring the prototypes of one language onto those of another?

A few labels in a space of hundreds of dimensions can be rotated onto nearly anything, so the residual of the fit says
little. What counts is whether a label that the rotation was not fitted on lands where it should.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError

_RANK = 1e-10  # what is below this share of the largest is rounding
_LEAST = 4


@dataclass(frozen=True, slots=True)
class ProcrustesFit:
    """How well one set of vectors is rotated, scaled and shifted onto another; each field has the shape of the leading axes.

    Attributes:
        residual: Of the fit on all labels, as a share of the variance: 0 is perfect. Few labels in many dimensions are fitted
            well whatever they are.
        held_out_error: Squared error on labels that the fit has not seen, as a share of what the mean of the others leaves:
            0 is perfect, 1 is no better than the mean. What a label has in directions that the others do not span cannot
            be predicted, so few labels in many dimensions leave an error even between a set and itself: compare with that.
        retrieval: Share of the labels that the fit has not seen whose nearest prototype (by cosine) in the other language is
            that of the same label; chance is one in the number of labels. All three are means over both directions.
    """

    residual: NDArray[np.float64]
    held_out_error: NDArray[np.float64]
    retrieval: NDArray[np.float64]


def coordinates(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors with these scalar products, about their mean, in as many dimensions as there are labels.

    All distances are those of the vectors that the products are of, however wide these were.

    Args:
        products: (..., labels, labels), `vectors @ vectors.T`.

    Returns:
        (..., labels, labels).
    """
    centred = products - products.mean(-1, keepdims=True)
    centred = centred - centred.mean(-2, keepdims=True)
    values, axes = np.linalg.eigh(centred)
    values = np.where(values > _RANK * values[..., -1:], values, 0.0)
    return np.asarray(axes * np.sqrt(values)[..., None, :])


def procrustes(one: NDArray[np.float64], other: NDArray[np.float64]) -> ProcrustesFit:
    """Fit one rotation, scale and shift between two sets of prototypes, and test it on each label in turn.

    The solution is that of Schoenemann (1966), as in `scipy.linalg.orthogonal_procrustes`, for many sets at once. For each
    label the fit is repeated without it; directions in which the others say nothing are left out of the prediction.

    Args:
        one: (..., labels, width); wide ones are handled faster as `coordinates`.
        other: (..., labels, width), the same labels in the same order; widths may differ.

    Raises:
        InputError: The numbers of labels differ, or are below 4.
    """
    labels = one.shape[-2]
    if labels != other.shape[-2] or labels < _LEAST:
        raise InputError(
            f"Procrustes needs the same labels on both sides, at least {_LEAST}; got {labels} and {other.shape[-2]}."
        )
    others = np.array([[place for place in range(labels) if place != out] for out in range(labels)])
    sets = [np.asarray(side, np.float64) for side in (one, other)]
    means = [side[..., others, :].mean(-2) for side in sets]
    fitted = [side[..., others, :] - mean[..., None, :] for side, mean in zip(sets, means, strict=True)]
    left, values, right = _rotation(fitted[0], fitted[1])
    rotation = (left * (values > _RANK * values.max(-1, keepdims=True))[..., None, :]) @ right
    sizes = [(side**2).sum((-1, -2)) for side in fitted]
    errors, found = [], []
    for start, goal, turn in ((0, 1, rotation), (1, 0, np.swapaxes(rotation, -1, -2))):
        moved = (sets[start] - means[start])[..., None, :] @ turn
        guess = moved[..., 0, :] * _ratio(values.sum(-1), sizes[start])[..., None]
        aims = sets[goal][..., None, :, :] - means[goal][..., :, None, :]
        errors.append(_error(guess, np.einsum("...kkd->...kd", aims)))
        found.append(_nearest(guess, aims))
    return ProcrustesFit(_residual(sets[0], sets[1]), (errors[0] + errors[1]) / 2, (found[0] + found[1]) / 2)


def _rotation(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    left, values, right = np.linalg.svd(np.swapaxes(one, -1, -2) @ other, full_matrices=False)
    return left, values, right


def _residual(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = (side - side.mean(-2, keepdims=True) for side in (one, other))
    overlap = np.linalg.svd(np.swapaxes(first, -1, -2) @ second, compute_uv=False).sum(-1)
    return np.asarray(1.0 - _ratio(overlap**2, (first**2).sum((-1, -2)) * (second**2).sum((-1, -2))))


def _error(guess: NDArray[np.float64], aim: NDArray[np.float64]) -> NDArray[np.float64]:
    """All labels together, so that one near the mean does not outweigh the others."""
    return np.asarray(_ratio(((guess - aim) ** 2).sum((-1, -2)), (aim**2).sum((-1, -2))))


def _nearest(guess: NDArray[np.float64], aims: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the guesses that are nearest to their own aim."""
    lengths = np.linalg.norm(aims, axis=-1)
    cosines = _ratio((aims * guess[..., None, :]).sum(-1), lengths)
    return np.asarray((cosines.argmax(-1) == np.arange(cosines.shape[-1])).mean(-1))


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(above / np.where(below > 0, below, 1.0))

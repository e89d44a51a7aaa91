"""Vectors of several languages and states of a model in one plane (t-SNE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.extras import require

LabelledVectors = tuple[NDArray[np.floating], Sequence[str]]
"""(items, width) and the label of each item."""

_FEWEST = 4
_PERPLEXITY = 20.0


@dataclass(frozen=True, slots=True)
class Projection:
    """Places in a plane, one for each vector; each field has one entry for each.

    Attributes:
        x: Places across. Only what lies near what means anything; axes, sizes and distances between clusters do not.
        y: Places upwards.
        languages: Whose vector it is.
        labels: What it is of, such as a relation.
        panels: Which state of the model it is of, such as "before".
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    panels: tuple[str, ...]


def project(
    panels: Mapping[str, Mapping[str, LabelledVectors]], *, perplexity: float | None = None, seed: int = 0
) -> Projection:
    """All vectors in one plane, by t-SNE of their directions (van der Maaten and Hinton 2008).

    All panels are embedded together: only so can a point before be compared with the same point after. A picture
    suggests, it measures nothing; the figures are those of `align_relations`.

    Args:
        panels: Panel -> language -> vectors and their labels, such as `(prototypes.layers[3], prototypes.labels)`.
        perplexity: About how many neighbours count; 20 if None, fewer where there are few vectors.
        seed: Of the embedding.

    Raises:
        InputError: There are fewer than four vectors, their widths differ, or the perplexity is out of range.
        MissingExtraError: scikit-learn is not installed.
        NonFiniteError: A vector is not finite.
    """
    names, vectors = _stacked(panels)
    if len(vectors) < _FEWEST:
        raise InputError(f"A picture needs at least {_FEWEST} vectors, got {len(vectors)}.")
    if not np.isfinite(vectors).all():
        raise NonFiniteError("A vector has NaN or infinity in it, and no place beside others. Leave its layer out.")
    near = min(_PERPLEXITY, (len(vectors) - 1) / 3) if perplexity is None else perplexity
    if not 1 <= near < len(vectors):
        raise InputError(f"perplexity is at least 1 and below the number of vectors ({len(vectors)}), got {near}.")
    manifold = require("sklearn.manifold", extra="probing", feature="A picture by t-SNE")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(lengths > 0, lengths, 1.0)
    model = manifold.TSNE(n_components=2, perplexity=near, init=_start(directions), random_state=seed, max_iter=500)
    places = np.asarray(model.fit_transform(directions), np.float64)
    x, y = (tuple(round(float(one), 3) for one in column) for column in places.T)
    return Projection(x, y, *names)


def _stacked(
    panels: Mapping[str, Mapping[str, LabelledVectors]],
) -> tuple[list[tuple[str, ...]], NDArray[np.float64]]:
    """Languages, labels and panels of all vectors, and the vectors."""
    names: list[tuple[str, str, str]] = []
    parts: list[NDArray[np.float64]] = []
    for panel, languages in panels.items():
        for language, (vectors, labels) in languages.items():
            part = np.asarray(vectors, np.float64)
            if part.ndim != 2 or len(part) != len(labels) or part.shape[1:] != (parts or [part])[0].shape[1:]:  # noqa: PLR2004
                raise InputError(
                    f"{panel!r}, {language!r}: expected (items, width) with one label for each item and one width for all, got "
                    f"{part.shape} and {len(labels)} labels."
                )
            parts.append(part)
            names += [(language, str(label), panel) for label in labels]
    if not names:
        return [(), (), ()], np.zeros((0, 1))
    return list(zip(*names, strict=True)), np.concatenate(parts)


def _start(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """The first two principal components, so that the same vectors give the same picture."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    count = min(2, left.shape[1])
    places[:, :count] = left[:, :count] * sizes[:count]
    spread = places[:, 0].std()
    return np.asarray(1e-4 * places / (spread if spread > 0 else 1.0), np.float32)

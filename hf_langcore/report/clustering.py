"""The tree over the names of a matrix: in which order its leaves stand, and the lines to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_langcore.report.parts import Matrix

_PAIR = 2


@dataclass(frozen=True, slots=True)
class Clustering:
    """A tree that can be drawn beside a grid.

    Attributes:
        order: Rows of the matrix from top to bottom.
        forks: For each joint its distance as a share of the largest, and (position, distance) of the two that it joins;
            positions count rows from the top, the middle of the first is 0.5.
    """

    order: tuple[int, ...]
    forks: tuple[tuple[float, tuple[float, float], tuple[float, float]], ...]


def clustering_of(part: Matrix) -> Clustering | None:
    """The tree of a square matrix; None where there is none, or none that fits its rows."""
    count = len(part.rows)
    if part.tree is None or len(part.columns) != count or len(part.tree) != count - 1:
        return None
    members: dict[int, list[int]] = {leaf: [leaf] for leaf in range(count)}
    joins = []
    for number, step in enumerate(part.tree):
        pair = [int(step[0]), int(step[1])] if len(step) > _PAIR and math.isfinite(step[2]) else []
        if len(set(pair)) != _PAIR or not all(each in members for each in pair):
            return None
        joins.append((pair[0], pair[1], float(step[2])))
        members[count + number] = members.pop(pair[0]) + members.pop(pair[1])
    order = tuple(next(iter(members.values())))
    return Clustering(order, _forks(order, joins))


def _forks(
    order: tuple[int, ...], joins: list[tuple[int, int, float]]
) -> tuple[tuple[float, tuple[float, float], tuple[float, float]], ...]:
    largest = max((distance for _, _, distance in joins), default=0.0) or 1.0
    places = {leaf: (place + 0.5, 0.0) for place, leaf in enumerate(order)}
    forks = []
    for number, (one, other, distance) in enumerate(joins):
        share = max(distance, 0.0) / largest
        forks.append((share, places[one], places[other]))
        places[len(order) + number] = ((places[one][0] + places[other][0]) / 2, share)
    return tuple(forks)

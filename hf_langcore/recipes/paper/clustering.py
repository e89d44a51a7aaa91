"""How much the cores of languages overlap, which languages are close, and whether a diagonal is more than chance."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError
from hf_langcore.extras import require
from hf_langcore.masks import CoreMask

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Tree = tuple[tuple[float, ...], ...]

_ALL_ORDERS = 7  # of so many languages every order is tried: 5,040
_ORDERS = 5_000
_SAMPLE = 20_000  # letters that tell a writing system


def intersections(masks: Sequence[CoreMask]) -> Counts:
    """Number of weights that each two masks share; the diagonal has their sizes.

    Args:
        masks: Over the same tensors. One tensor is decoded at a time.
    """
    shared = np.zeros((len(masks), len(masks)), dtype=np.int64)
    for name in masks[0]:
        bits = [mask.packed(name).data for mask in masks]
        for one, other in itertools.combinations_with_replacement(range(len(masks)), 2):
            shared[one, other] += int(np.bitwise_count(bits[one] & bits[other]).sum(dtype=np.int64))
    return np.asarray(shared + np.triu(shared, 1).T)


def shared_by(masks: Sequence[CoreMask]) -> Counts:
    """How many weights are in none of the masks, in one, in two, ... in all; one tensor is decoded at a time."""
    found = np.zeros(len(masks) + 1, dtype=np.int64)
    for name in masks[0]:
        depth = np.zeros(masks[0].packed(name).size, dtype=np.uint16)
        for mask in masks:
            depth += mask.packed(name).to_bool().reshape(-1)
        found += np.bincount(depth, minlength=found.size)
    return found


def jaccard_of(shared: Counts) -> Floats:
    """Intersection over union from `intersections`; 1 for two empty masks."""
    sizes = np.diag(shared)
    union = sizes[:, None] + sizes[None, :] - shared
    return np.asarray(np.where(union > 0, shared / np.maximum(union, 1), 1.0))


def random_jaccard(core_mask: CoreMask) -> float:
    """The overlap to expect of two random masks with as many weights in each tensor as this one."""
    shapes = core_mask.shapes()
    counts = {name: core_mask.count(name) for name in core_mask}
    shared = sum(count**2 / np.prod(shapes[name], dtype=np.float64) for name, count in counts.items() if count)
    union = 2 * sum(counts.values()) - shared
    return float(shared / union) if union else 1.0


def cluster(jaccard: Floats) -> tuple[list[int], Tree]:
    """Average-linkage clustering with 1 - overlap as the distance.

    Returns:
        The order of the leaves, and scipy's linkage for the matrix in that order: leaf i of the tree is row i.

    Raises:
        MissingExtraError: scipy is not installed (`pip install "hf_langcore[report]"`).
    """
    hierarchy = require("scipy.cluster.hierarchy", extra="report", feature="Clustering languages")
    condensed = (1 - jaccard)[np.triu_indices(len(jaccard), 1)]
    steps = hierarchy.linkage(condensed, method="average", optimal_ordering=True)
    order = [int(leaf) for leaf in hierarchy.leaves_list(steps)]
    place = {leaf: float(row) for row, leaf in enumerate(order)}
    tree = tuple(
        (place.get(int(one), float(one)), place.get(int(other), float(other)), float(distance), float(size))
        for one, other, distance, size in steps
    )
    return order, tree


def own_excess(rises: Floats) -> tuple[float, float]:
    """How much more a region's removal hurts its own language than languages and regions differ anyway.

    Some languages suffer from anything and some regions hurt everything, so a large diagonal alone says little. Row and column
    means are taken out; the mean of what is left on the diagonal is compared with that under other orders of the regions.

    Args:
        rises: Regions x languages in the same order, at least two.

    Returns:
        The mean excess in nats per token, and the share of the orders whose excess is at least as large: a one-sided
        p-value, every order for up to seven languages, 5,000 drawn ones for more. NaN where a figure is not finite.
    """
    count = len(rises)
    if count < 2 or rises.shape != (count, count):  # noqa: PLR2004 nobody else to compare with
        raise InputError(f"Expected rises of at least two languages under their regions, got shape {rises.shape}.")
    if not np.isfinite(rises).all():
        return float("nan"), float("nan")
    left = rises - rises.mean(0) - rises.mean(1)[:, None] + rises.mean()
    lines, observed = np.arange(count), float(np.trace(left) / count)
    found = [float(left[lines, list(order)].mean()) for order in _orders(count)]
    return observed, sum(one >= observed - 1e-12 for one in found) / len(found)


def script_of(texts: Iterable[str]) -> str:
    """The writing system of most letters, by the first word of their Unicode names: "Latin", "Cyrillic", "Hangul"."""
    letters = itertools.islice((letter for text in texts for letter in text if letter.isalpha()), _SAMPLE)
    found = Counter(unicodedata.name(letter, "unknown").split()[0] for letter in letters)
    name = found.most_common(1)[0][0] if found else "none"
    return "Chinese characters" if name == "CJK" else name.capitalize() if found else name


def within_and_across(jaccard: Floats, groups: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """For each group the mean overlap of two of its members, and of a member with another group's; None without any."""
    labels = np.asarray(groups)
    apart = ~np.eye(len(labels), dtype=np.bool_)
    means: dict[str, tuple[float | None, float | None]] = {}
    for group in dict.fromkeys(groups):
        own, same = labels == group, labels[None, :] == group
        means[group] = (_mean(jaccard, own[:, None] & same & apart), _mean(jaccard, own[:, None] & ~same))
    return means


def _mean(values: Floats, chosen: NDArray[Any]) -> float | None:
    return float(values[chosen].mean()) if chosen.any() else None


def _orders(count: int) -> Iterable[Sequence[int]]:
    if count <= _ALL_ORDERS:
        return itertools.permutations(range(count))
    drawn = random.Random(0)
    return [range(count), *(drawn.sample(range(count), count) for _ in range(_ORDERS - 1))]

"""Which tensors or modules count as core as a whole, for formats that know nothing smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask


def check_threshold(threshold: float | None) -> float | None:
    """Return `threshold` if it is a share larger than 0, or None.

    Raises:
        InputError: It is not.
    """
    is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and math.isfinite(threshold) and 0 < threshold <= 1):
        raise InputError(
            f"threshold is a share of core weights, larger than 0 and at most 1, or None for any core weight; got "
            f"{threshold!r}."
        )
    return threshold


def dominated(core_mask: CoreMask, groups: Mapping[str, Sequence[str]], threshold: float | None) -> dict[str, float]:
    """The groups of tensors with a share of core weights of at least `threshold`, or with any if it is None.

    Args:
        core_mask: The mask.
        groups: Name of a group -> names of its tensors.
        threshold: Share, 0 to 1.

    Returns:
        Name -> share of core weights.
    """
    chosen = {}
    for group, names in groups.items():
        count = sum(core_mask.count(name) for name in names)
        size = sum(core_mask.packed(name).size for name in names)
        if count and (threshold is None or count >= threshold * size):
            chosen[group] = count / size
    return chosen

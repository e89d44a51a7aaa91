"""Choosing weights by score: per tensor, by one partition value and a comparison.

`numpy.partition` gives the threshold and one comparison the mask. That is about four times faster than
`torch.topk` over a large flattened tensor and gives the same mask; entries that tie at the threshold are taken
by lowest index, so that the result does not depend on the sorting algorithm.
"""

from __future__ import annotations

import zlib
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.masks.bits import Bools, PackedBits

Which = Literal["top", "bottom", "random"]


def check_fraction(fraction: Any) -> float:
    """Return `fraction` if it lies strictly between 0 and 1.

    Raises:
        InputError: It does not, or is no number.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < float(fraction) < 1:
        raise InputError(
            f"fraction must be a number strictly between 0 and 1, got {fraction!r}. It is the share of each tensor's "
            "weights that is selected: 0.03 for 3 %."
        )
    return float(fraction)


def check_which(which: str) -> Which:
    """Return `which` if it names a way of selecting.

    Raises:
        InputError: It does not.
    """
    if which not in get_args(Which):
        raise InputError(f"which must be one of {list(get_args(Which))}, got {which!r}.")
    return which  # type: ignore[return-value]


def select(name: str, scores: torch.Tensor, *, fraction: float, which: Which, seed: int) -> PackedBits:
    """Select int(fraction * numel) entries of one tensor.

    Args:
        name: The tensor's name: for messages, and so that each tensor draws its own random numbers.
        scores: Real numbers of any shape; only the shape matters for `which="random"`.
        fraction: Share to select, strictly between 0 and 1.
        which: "top" takes the largest scores, "bottom" the smallest, "random" any.
        seed: For "random".

    Raises:
        NonFiniteError: `scores` holds NaN. Infinities are ordered and allowed.
    """
    count = int(fraction * scores.numel())
    if which == "random":
        chosen = np.zeros(scores.numel(), dtype=np.bool_)
        chosen[random_positions(name, scores.numel(), count, seed=seed)] = True
    else:
        exact = scores.dtype if scores.dtype in {torch.float32, torch.float64} else torch.float32
        values = scores.detach().to("cpu", exact).reshape(-1).numpy()
        if np.isnan(values).any():
            raise NonFiniteError(
                f"The scores of {name!r} contain NaN, so they cannot be ranked. Compute them again in float32, and "
                "look for NaN in the model's weights."
            )
        chosen = _extreme(values, count, largest=which == "top")
    return PackedBits.from_bool(chosen.reshape(tuple(scores.shape)))


def random_positions(name: str, size: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """`count` distinct positions below `size`; independent of the order in which tensors are visited."""
    generator = np.random.Generator(np.random.PCG64([seed % 2**64, zlib.crc32(name.encode())]))
    return generator.choice(size, count, replace=False, shuffle=False)


def _extreme(values: NDArray[Any], count: int, *, largest: bool) -> Bools:
    if count == 0:
        return np.zeros(values.size, dtype=np.bool_)
    position = values.size - count if largest else count - 1
    threshold = np.partition(values, position)[position]
    chosen: Bools = values > threshold if largest else values < threshold
    missing = count - int(np.count_nonzero(chosen))
    chosen[np.flatnonzero(values == threshold)[:missing]] = True
    return chosen

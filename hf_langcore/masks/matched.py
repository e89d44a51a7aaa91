"""Controls that share more with a core than its size: its magnitudes, its row and column profile, or both.

A random mask of equal size leaves two questions open. Large weights matter more than small ones, and a core has large ones; and a core
concentrates in few rows and columns. These controls have the same of one or of both, and are random beyond that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_langcore.errors import CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.masks.bits import Bools
from hf_langcore.masks.mask import CoreMask

Integers = NDArray[np.int64]
Bins = NDArray[np.uint8]

_MATRIX = 2
_MAGNITUDE_BINS = 64
_JOINT_BINS = 4  # swaps need two entries of fitting bins, so that many bins leave nearly none
_FEWEST_IN_BIN = 8
_CORE = 255  # in place of a bin: not to be drawn
_TRADES = 20  # after k rounds a weight may be in any of 2^k rows
_SWAP_ROUNDS = 400


@dataclass(frozen=True, slots=True)
class MatchedMask:
    """A control and how well it matches.

    Attributes:
        core_mask: The control.
        displaced: Tensor -> weights that had to be taken from another bin of magnitudes, because too few were left in their own.
        overlapping: Tensor -> weights that lie in the core too. A profile may force them (a row that is full stays
            full); a mask of more than half of a tensor always has some.
    """

    core_mask: CoreMask
    displaced: Mapping[str, int]
    overlapping: Mapping[str, int]

    @property
    def overlap(self) -> float:
        """Share of the control that lies in the core; 0.0 for an empty one."""
        return sum(self.overlapping.values()) / max(1, self.core_mask.count())

    @property
    def displaced_share(self) -> float:
        """Share of the control's weights whose magnitude bin is not matched; 0.0 for an empty one."""
        return sum(self.displaced.values()) / max(1, self.core_mask.count())


def magnitude_matched(core_mask: CoreMask, weights: Mapping[str, torch.Tensor], *, seed: int = 0) -> MatchedMask:
    """In each tensor as many weights outside the core as inside, with the same distribution of magnitudes.

    Magnitudes are put into at most 64 bins with equally many core weights each; as many weights as the core has in a bin are drawn
    from those outside it. Where too few are left the rest comes from the nearest bins that have some, at last from magnitudes
    beyond the core's, and is counted as displaced. Where more than half of a tensor is core, all that is outside is taken and the
    rest from the core, counted as overlapping. Each tensor is looked through a few
    times and next to nothing of it is sorted: about 5 s on one core for 4096 x 11008 at 3 %.

    Args:
        core_mask: The core.
        weights: Parameter name -> values, of all tensors of the mask; others are not looked at.
        seed: Of the draws; each tensor has its own.

    Raises:
        CoreMaskMismatchError: A tensor is missing or has another shape.
        NonFiniteError: The weights hold NaN or infinity.
    """

    def draw(name: str, core: Bools, generator: np.random.Generator) -> tuple[Bools, int]:
        return _same_magnitudes(core, _magnitudes(name, core, weights), generator)

    return _matched(core_mask, draw, "matched in magnitude", seed)


def profile_matched(core_mask: CoreMask, *, seed: int = 0) -> MatchedMask:
    """A random mask with exactly as many weights in every row and in every column as the core has.

    Rows are paired at random and the entries that only one of the two has are dealt out anew, keeping both counts (Curveball
    trades, Strona et al. 2014, all rows at once as in Carstens et al. 2018); 20 rounds. Stacks of matrices keep the profile of each.
    Vectors have no profile: as many random weights outside the core, where there are so many. A round costs a pass over
    the entries of a matrix and a sort of the core's: all 20 about 5 s on one core for 4096 x 11008 at 3 %.

    Args:
        core_mask: The core.
        seed: Of the trades; each tensor has its own.
    """

    def draw(_name: str, core: Bools, generator: np.random.Generator) -> tuple[Bools, int]:
        if core.ndim < _MATRIX:
            return _elsewhere(core, generator), 0
        return _each_matrix(core, lambda _place, matrix: _trade(matrix, generator)), 0

    return _matched(core_mask, draw, "matched in row and column profile", seed)


def profile_and_magnitude_matched(
    core_mask: CoreMask, weights: Mapping[str, torch.Tensor], *, seed: int = 0, rounds: int = _SWAP_ROUNDS
) -> MatchedMask:
    """A random mask with exactly the core's row and column counts and, exactly, its count in each of at most 4 bins of magnitude.

    Starts from the core and exchanges two of its entries, (r, c) and (s, d), for (r, d) and (s, c) where these are outside the
    mask and have the same two bins. Few pairs fit, least where the core holds nearly all large weights of a row, so that
    part of the core may stay where it is: look at `overlapping`. Vectors are matched in magnitude.

    Args:
        core_mask: The core.
        weights: Parameter name -> values, of all tensors of the mask.
        seed: Of the exchanges; each tensor has its own.
        rounds: How often all entries are paired; each costs about 0.2 s for 4096 x 11008 at 3 %.

    Raises:
        CoreMaskMismatchError: A tensor is missing or has another shape.
        InputError: `rounds` is below 1.
        NonFiniteError: The weights hold NaN or infinity.
    """
    if rounds < 1:
        raise InputError(f"rounds must be at least 1, got {rounds!r}.")

    def draw(name: str, core: Bools, generator: np.random.Generator) -> tuple[Bools, int]:
        magnitudes = _magnitudes(name, core, weights)
        if core.ndim < _MATRIX:
            return _same_magnitudes(core, magnitudes, generator)
        bins = _binned(magnitudes, magnitudes[core], _JOINT_BINS).reshape(-1, *core.shape[-2:])
        return _each_matrix(core, lambda place, matrix: _exchange(matrix, bins[place], generator, rounds)), 0

    return _matched(core_mask, draw, "matched in profile and magnitude", seed)


def _matched(
    core_mask: CoreMask, draw: Callable[[str, Bools, np.random.Generator], tuple[Bools, int]], words: str, seed: int
) -> MatchedMask:
    planes: dict[str, torch.Tensor] = {}
    displaced, overlapping = {}, {}
    for name in core_mask:
        core = core_mask[name].numpy()
        generator = np.random.Generator(np.random.PCG64([seed % 2**64, zlib.crc32(f"{words} {name}".encode())]))
        chosen, displaced[name] = (core, 0) if core_mask.count(name) == 0 else draw(name, core, generator)
        overlapping[name] = int(np.count_nonzero(chosen & core))
        planes[name] = torch.from_numpy(chosen)
    # In the words by which an edit knows a control.
    source = core_mask.provenance.combined(f"random of equal size, {words}, seed {seed}")
    return MatchedMask(CoreMask(planes, provenance=source), displaced, overlapping)


def _magnitudes(name: str, core: Bools, weights: Mapping[str, torch.Tensor]) -> NDArray[np.float32]:
    if name not in weights or tuple(weights[name].shape) != core.shape:
        found = f"has shape {tuple(weights[name].shape)}" if name in weights else "is missing"
        raise CoreMaskMismatchError(
            f"The mask covers {name!r} with shape {core.shape}; among the weights it {found}. Pass those of the mask's model: "
            "{name: weight.parameter for name, weight in hf_langcore.architecture.bare_weights(model).items()}."
        )
    values: NDArray[np.float32] = weights[name].detach().to("cpu", torch.float32).abs().numpy()
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{name!r} holds NaN or infinity, which has no magnitude to be matched.")
    return values


def _binned(magnitudes: NDArray[Any], inside: NDArray[Any], most: int) -> Bins:
    """Bin of each entry: 1 to the number of bins where the core has its magnitudes, 0 below these and one more above."""
    count = max(1, min(most, inside.size // _FEWEST_IN_BIN))
    edges = np.quantile(inside, np.linspace(0, 1, count + 1), method="inverted_cdf").astype(np.float32)
    edges[0] = np.nextafter(edges[0], np.float32(-1))  # the smallest of the core belongs to the first bin
    return np.searchsorted(edges, magnitudes).astype(np.uint8)


def _same_magnitudes(core: Bools, magnitudes: NDArray[Any], generator: np.random.Generator) -> tuple[Bools, int]:
    bins = _binned(magnitudes, magnitudes[core], _MAGNITUDE_BINS).reshape(-1)
    flat = core.reshape(-1)
    wanted = np.bincount(bins[flat], minlength=_MAGNITUDE_BINS + 2)
    left = np.bincount(bins, minlength=_MAGNITUDE_BINS + 2) - wanted
    taken = _spread(wanted, left)
    chosen = np.zeros_like(flat)
    chosen[_drawn(np.where(flat, _CORE, bins), left, taken, generator)] = True
    missing = int(wanted.sum() - taken.sum())
    chosen[generator.choice(np.flatnonzero(flat), missing, replace=False)] = True
    return chosen.reshape(core.shape), int(np.maximum(taken - wanted, 0).sum())


def _drawn(bins: Bins, left: Integers, taken: Integers, generator: np.random.Generator) -> Integers:
    """Positions of `taken` random entries of each bin: those with the smallest random numbers, most of which are never sorted."""
    numbers = generator.random(bins.size, dtype=np.float32)
    limits = np.zeros(_CORE + 1, dtype=np.float32)
    limits[: left.size] = (taken + 8 * np.sqrt(taken) + 8) / np.maximum(left, 1) * (taken > 0)
    found = np.flatnonzero(numbers < limits[bins])
    # Ties of random numbers are broken by position; there are next to none.
    ordered = found[np.lexsort((numbers[found], bins[found]))]
    sizes = np.bincount(bins[ordered], minlength=left.size)
    rank = np.arange(ordered.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(ordered[rank < np.repeat(taken, sizes)])


def _spread(wanted: Integers, left: Integers) -> Integers:
    """How many are taken of each bin: what is wanted, and where too few are left more of the nearest bins."""
    taken = np.minimum(wanted, left)
    for place in np.flatnonzero(wanted > left):
        missing = int(wanted[place] - left[place])
        for other in sorted(range(wanted.size), key=lambda one: (abs(one - place), -one)):
            more = min(missing, int(left[other] - taken[other]))
            taken[other] += more
            missing -= more
    return np.asarray(taken)


def _elsewhere(core: Bools, generator: np.random.Generator) -> Bools:
    """As many random entries of a vector, outside the core first."""
    flat = core.reshape(-1)
    shuffled = generator.permutation(flat.size)
    first = shuffled[np.argsort(flat[shuffled], kind="stable")][: np.count_nonzero(flat)]
    chosen = np.zeros_like(flat)
    chosen[first] = True
    return chosen.reshape(core.shape)


def _each_matrix(core: Bools, draw: Callable[[int, Bools], Bools]) -> Bools:
    stack = core.reshape(-1, *core.shape[-2:])
    return np.stack([draw(place, matrix) for place, matrix in enumerate(stack)]).reshape(core.shape)


def _trade(core: Bools, generator: np.random.Generator) -> Bools:
    """Curveball trades between all rows, paired anew in each round."""
    matrix = core.copy()
    half = matrix.shape[0] // 2
    for _ in range(_TRADES if half else 0):
        order = generator.permutation(matrix.shape[0])
        ones, others = order[:half], order[half : 2 * half]
        single = matrix[ones] ^ matrix[others]
        mine = np.count_nonzero(single & matrix[ones], axis=1)
        pair, column = np.nonzero(single)
        ordered = np.argsort(pair + generator.random(pair.size), kind="stable")  # shuffled within each pair
        sizes = np.bincount(pair, minlength=half)
        rank = np.arange(pair.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        is_mine = rank < np.repeat(mine, sizes)
        column = column[ordered]
        matrix[ones[pair], column] = is_mine
        matrix[others[pair], column] = ~is_mine
    return matrix


def _exchange(core: Bools, bins: Bins, generator: np.random.Generator, rounds: int) -> Bools:
    """Exchange pairs of entries for the other two corners of their rectangle where bins and emptiness allow it."""
    matrix = core.copy()
    rows, columns = np.nonzero(matrix)
    half = rows.size // 2
    width = matrix.shape[1]
    for _ in range(rounds if half else 0):
        order = generator.permutation(rows.size)
        one, other = order[:half], order[half : 2 * half]
        fits = _fitting(matrix, bins, (rows[one], columns[one]), (rows[other], columns[other]))
        one, other = one[fits], other[fits]
        corners = np.stack([rows[one] * width + columns[other], rows[other] * width + columns[one]])
        # Two pairs may want one corner: neither gets it unless it is the first to want both of its own.
        first = np.zeros(corners.size, dtype=np.bool_)
        first[np.unique(corners.T.reshape(-1), return_index=True)[1]] = True
        kept = first.reshape(-1, 2).all(axis=1)
        one, other = one[kept], other[kept]
        matrix[rows[one], columns[one]] = matrix[rows[other], columns[other]] = False
        columns[one], columns[other] = columns[other], columns[one]
        matrix[rows[one], columns[one]] = matrix[rows[other], columns[other]] = True
    return matrix


def _fitting(matrix: Bools, bins: Bins, one: tuple[Integers, Integers], other: tuple[Integers, Integers]) -> Bools:
    corner, opposite = (one[0], other[1]), (other[0], one[1])
    is_free = ~(matrix[corner] | matrix[opposite])
    first, second, third, fourth = bins[one], bins[other], bins[corner], bins[opposite]
    same = ((first == third) & (second == fourth)) | ((first == fourth) & (second == third))
    return np.asarray(is_free & same)

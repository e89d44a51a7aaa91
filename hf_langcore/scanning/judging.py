"""What is special: matched controls, and the order in which critical places are reported."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from hf_langcore.scanning.candidates import Candidate, Index, norm_candidate, slice_candidate
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.statistics import Interval
from hf_langcore.scanning.tensors import Tensors

_MARGIN, _MARGIN_OF_GAINS = 2.0, 1.5

_TIE = 0.9  # of the stronger rise in loss: from there on two edits count as equally strong
_ROOT = 0.5  # of a rise in loss: a smaller edit of the same dimension that does so much is reported first
_SPARED = (2, 8, 8)  # at least, at most, and one of so many places of a tensor that are no controls
_SPARED_WEIGHTS = 8  # the same for single weights
_ENOUGH = 8  # edits of a tensor whose median says what is usual there
_FLOOR = 0.02  # nats per token; rises below that are not told apart
_IN_ROW, _IN_COLUMN = 2, 3  # weights of one row or column that may stand out together
_NEIGHBOURS = 2  # largest other weights of the same row, and of the same column, that are controls of a weight

Place = tuple[str, str, Index]
Group = tuple[str, str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate and what its worst edit does.

    Attributes:
        candidate: The candidate.
        factor: The factor that hurts most.
        losses: Under that edit.
        base: Without it, on the same text.
        size: Number of weights that it changes.
        residual: The residual dimension that it writes or reads.
        layer: Number of the decoder layer; None outside of layers.
        is_writer: It lies in a matrix that writes into the residual stream.
        interval: Of the perplexity ratio; None before it was measured on the whole text.
        control_ratio: Largest ratio of its controls.
    """

    candidate: Candidate
    factor: float
    losses: WindowLosses
    base: WindowLosses
    size: int
    residual: int | None
    layer: int | None
    is_writer: bool
    interval: Interval | None = None
    control_ratio: float | None = None

    @property
    def rise(self) -> float:
        """Rise of the mean loss over languages, in nats per token: the logarithm of the perplexity ratio."""
        return self.losses.mean_nll() - self.base.mean_nll()

    @property
    def place(self) -> Place:
        """What was edited."""
        return self.candidate.place

    @property
    def group(self) -> Group:
        """What it can be compared with: the same edit of the same kind of place in the same tensor."""
        return (self.candidate.parameter, self.candidate.kind, self.factor)


def residual_of(candidate: Candidate, tensors: Tensors) -> int | None:
    """The residual dimension that a place writes or reads, None where it does neither."""
    last = candidate.index if isinstance(candidate.index, tuple) else (candidate.index,)
    if candidate.kind == "norm":
        is_residual = tensors.norms[candidate.parameter].parameter.numel() == tensors.width
        return last[0] if is_residual else None
    matrix = tensors.matrices[candidate.parameter]
    rows, columns = matrix.values().shape[-2:]
    if matrix.is_writer:
        written = {"row": last[-1], "weight": last[-2] if len(last) > 1 else None}.get(candidate.kind)
        return written if rows == tensors.width else None
    read = last[-1] if candidate.kind in {"column", "weight"} else None
    return read if columns == tensors.width else None


def spared(found: Sequence[Measured], tensors: Tensors) -> set[Place]:
    """Places that are nobody's controls: the strongest few of each tensor.

    Two places that are special together must not hide each other, yet where many places of a tensor are alike none of them
    is special: so only a few are spared.

    Args:
        found: What was measured, strongest first.
        tensors: What of the model can be scanned.
    """
    chosen: dict[tuple[str, str], list[Place]] = {}
    for one in found:
        chosen.setdefault((one.candidate.parameter, one.candidate.kind), []).append(one.place)
    return {place for (name, kind), places in chosen.items() for place in places[: num_spared(tensors, name, kind)]}


def num_spared(tensors: Tensors, name: str, kind: str) -> int:
    """How many places of a tensor may be special together."""
    if kind == "weight":
        return _SPARED_WEIGHTS
    least, most, one_of = _SPARED
    shape = tensors.weight(name).parameter.shape if kind == "norm" else tensors.matrices[name].values().shape[-2:]
    size = shape[-1] if kind == "column" else shape[0]
    return max(least, min(most, size // one_of))


def matched_controls(
    candidate: Candidate, tensors: Tensors, *, count: int, seed: int, without: set[Place]
) -> list[Candidate]:
    """Places of the same kind in the same tensor, drawn at random; for single weights those that are most alike.

    A weight is compared with the weights of the tensor that are nearest in magnitude, and with the largest other weights of
    its row and of its column: where those do as much, the row or the column is what matters.

    Args:
        candidate: What they are controls of.
        tensors: What of the model can be scanned.
        count: How many; fewer where the tensor has no more.
        seed: Of the draw.
        without: Places that are no controls.
    """
    is_weight = candidate.kind == "weight"
    found = _alike_weights(candidate, tensors, count, without) if is_weight else _drawn(candidate, tensors, seed)
    chosen: list[Candidate] = []
    for one in found:
        if one.place != candidate.place and one.place not in without and len(chosen) < count:
            chosen.append(one)
    return chosen


def margin_of(kind: str) -> float:
    """How many times as much as all others of its tensor a critical place has to raise the loss.

    Gains are few, and all of them may be measured; of single weights, rows and columns one looks at the strongest of many.
    """
    return _MARGIN_OF_GAINS if kind == "norm" else _MARGIN


def stands_out(rise: float, others: Sequence[float], *, most: int, margin: float = _MARGIN) -> bool:
    """Whether a place belongs to the few of its tensor that raise the loss far more than all others.

    There has to be a gap: from some place on among the strongest `most`, this one included, each raises the loss more than
    `margin` times as much as everything that follows. Where effects fall off evenly nothing stands out, however large they are.

    Args:
        rise: Its rise of the loss, in nats per token.
        others: Those of all other places of the tensor that were measured, controls among them.
        most: How many may stand out together.
        margin: The gap.
    """
    ranked = sorted([rise, *others], reverse=True)
    own = ranked.index(rise)
    return any(
        ranked[place] > margin * max(ranked[place + 1], 0.0) for place in range(own, min(most, len(ranked) - 1))
    )


def lines_of(one: Measured, others: Sequence[Measured]) -> Iterator[tuple[list[Measured], int]]:
    """For a single weight the others of its row and of its column, and how many of these may stand out together.

    Where weights of one row do equally much it is the row that matters, so that none of them is special.
    """
    index = one.candidate.index
    if one.candidate.kind != "weight" or not isinstance(index, tuple):
        return
    indices = [(other, other.candidate.index) for other in others if isinstance(other.candidate.index, tuple)]
    yield [other for other, place in indices if place[:-1] == index[:-1]], _IN_ROW
    yield [other for other, place in indices if (*place[:-2], place[-1]) == (*index[:-2], index[-1])], _IN_COLUMN


def typical_rises(found: Sequence[Measured]) -> dict[Group, float]:
    """What an edit usually does: median over the tensor where enough of it was edited, else over all of the kind."""
    own: dict[Group, list[float]] = {}
    of_kind: dict[tuple[str, float], list[float]] = {}
    for one in found:
        own.setdefault(one.group, []).append(one.rise)
        of_kind.setdefault((one.candidate.kind, one.factor), []).append(one.rise)
    return {
        group: max(_FLOOR, statistics.median(rises if len(rises) >= _ENOUGH else of_kind[group[1], group[2]]))
        for group, rises in own.items()
    }


def in_order(found: Sequence[Measured], *, destroyed: float) -> list[Measured]:
    """Strongest first; of edits that do equally much the smallest first, and causes before what only passes them on.

    A row that contains a critical weight does what the weight does, and so does a norm gain that reads the dimension into which
    a critical weight writes; rows and columns of a residual dimension do what its gain does. All these stand behind, unless
    they raise the loss more than twice as much. Of single numbers that do equally much
    the weights that write into the residual stream come first, then norm gains, then other weights.

    Args:
        found: What is reported.
        destroyed: A rise from which on a model is destroyed, so that more says nothing, in nats per token.
    """
    effects = {one.place: min(one.rise, destroyed) for one in found}
    remaining = sorted(found, key=lambda one: (-one.rise, one.size, one.candidate.parameter, str(one.candidate.index)))
    ordered: list[Measured] = []
    while remaining:
        free = [one for one in remaining if not any(_is_cause(other, one) for other in remaining if other is not one)]
        strongest = max(effects[one.place] for one in free or remaining)
        tied = [one for one in free or remaining if effects[one.place] >= _TIE * strongest]
        chosen = min(tied, key=lambda one: (one.size, rank_of(one)))
        ordered.append(chosen)
        remaining.remove(chosen)
    return ordered


def rank_of(one: Measured) -> int:
    """The order among places of one size that do equally much."""
    if one.candidate.kind == "norm":
        return 1
    return 0 if one.is_writer else 2


def contains(whole: Candidate, part: Candidate) -> bool:
    """Whether a row or column contains a single weight."""
    if whole.parameter != part.parameter or part.kind != "weight" or not isinstance(part.index, tuple):
        return False
    line = whole.index if isinstance(whole.index, tuple) else (whole.index,)
    if whole.kind == "row":
        return line == part.index[:-1]
    return whole.kind == "column" and line == (*part.index[:-2], part.index[-1])


def _is_cause(one: Measured, other: Measured) -> bool:
    """Whether `other` is to stand behind a single number because it is likely to matter for the same reason.

    That is a row or column that contains the number, or one of the same residual dimension, and a norm gain that reads the
    dimension into which a weight writes before it.
    """
    if one.size > 1 or not (one.is_writer or one.candidate.kind == "norm") or one.rise < _ROOT * other.rise:
        return False
    if contains(other.candidate, one.candidate):
        return True
    if one.residual is None or one.residual != other.residual:
        return False
    if other.size > 1:
        return True
    follows = other.layer is None or (one.layer is not None and other.layer >= one.layer)
    return one.candidate.kind == "weight" and other.candidate.kind == "norm" and follows


def _drawn(candidate: Candidate, tensors: Tensors, seed: int) -> Iterator[Candidate]:
    """The other gains, rows or columns of a tensor, in random order."""
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(repr(candidate.place).encode()))
    name, kind = candidate.parameter, candidate.kind
    if kind == "norm":
        size = tensors.norms[name].parameter.numel()
        yield from (norm_candidate(name, one, "control") for one in torch.randperm(size, generator=generator).tolist())
        return
    front = candidate.index[:-1] if isinstance(candidate.index, tuple) else ()
    size = tensors.matrices[name].values().shape[-2 if kind == "row" else -1]
    for one in torch.randperm(size, generator=generator).tolist():
        yield slice_candidate(name, kind, (*front, one), "control")


def _alike_weights(candidate: Candidate, tensors: Tensors, count: int, without: set[Place]) -> Iterator[Candidate]:
    """First the largest others of the row and the column, then the nearest in magnitude."""
    name, index = candidate.parameter, candidate.index
    if not isinstance(index, tuple):
        return
    *front, row, column = index
    values = tensors.matrices[name].values()[tuple(front)].float().abs()
    several = _NEIGHBOURS + _SPARED_WEIGHTS + 1
    taken = {index, *(other for parameter, _, other in without if parameter == name)}
    largest_columns = values[row].topk(min(several, values.shape[1])).indices.tolist()
    largest_rows = values[:, column].topk(min(several, values.shape[0])).indices.tolist()
    in_row = [(row, one) for one in largest_columns if (*front, row, one) not in taken][:_NEIGHBOURS]
    in_column = [(one, column) for one in largest_rows if (*front, one, column) not in taken][:_NEIGHBOURS]
    places = [*in_row, *in_column]
    distance = (values - values[row, column]).abs().reshape(-1)
    nearest = distance.topk(min(count + 2 * several, distance.numel()), largest=False).indices.tolist()
    places += [divmod(one, values.shape[1]) for one in nearest]
    for place in dict.fromkeys(places):
        yield slice_candidate(name, "weight", (*front, *place), "control")

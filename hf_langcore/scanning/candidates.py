"""Candidates: what may be critical, and who says so."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, get_args

import torch
from torch import nn

from hf_langcore.architecture import find_weight
from hf_langcore.errors import InputError
from hf_langcore.scanning.tensors import Tensors

Kind = Literal["norm", "row", "column", "weight"]
Index = int | tuple[int, ...]

_PARTS = (2, 3)  # of a dimension that somebody names: name and index, and the axis of a matrix


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be critical.

    Attributes:
        parameter: Name of the parameter in the bare model.
        axis: 0 for norm gains and rows, 1 for columns, in nn.Linear orientation; None where `index` is a tuple, which
            `scale_dimension` does not take.
        index: A number; (row, column) of a single weight, in nn.Linear orientation; with the expert's number in front in
            stacked experts: (expert, row) or (expert, row, column).
        kind: "norm", "row", "column" or "weight".
        sources: Who proposed it: "activations", "weights", "gradients", "mask", "given" or "all".
        score: What the first source gave it; larger is more suspicious. Scores of different sources cannot be compared.
    """

    parameter: str
    axis: int | None
    index: Index
    kind: Kind
    sources: tuple[str, ...] = ()
    score: float = 0.0

    @property
    def place(self) -> tuple[str, str, Index]:
        """What it is, whoever proposed it."""
        return (self.parameter, self.kind, self.index)

    def view(self, tensors: Tensors) -> torch.Tensor:
        """The entries themselves: a view that writes through."""
        if self.kind == "norm":
            return tensors.norms[self.parameter].parameter.detach()[self.index]
        values = tensors.matrices[self.parameter].values()
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        if self.kind == "column":
            return values.transpose(-1, -2)[index]
        return values[index]


def norm_candidate(name: str, index: int, source: str, score: float = 0.0) -> Candidate:
    """One gain of a norm."""
    return Candidate(name, 0, index, "norm", (source,), score)


def slice_candidate(name: str, kind: Kind, index: Sequence[int], source: str, score: float = 0.0) -> Candidate:
    """A row, a column or a single weight of a matrix."""
    whole: Index = index[0] if len(index) == 1 else tuple(index)
    axis = None if isinstance(whole, tuple) else {"row": 0, "column": 1}[kind]
    return Candidate(name, axis, whole, kind, (source,), score)


def largest(name: str, kind: Kind, scores: torch.Tensor, source: str, *, count: int) -> list[Candidate]:
    """The places of a tensor with the largest scores.

    Args:
        name: Of the parameter.
        kind: What a place is.
        scores: One per place, in the shape in which places are counted; NaN counts as nothing.
        source: Who says so.
        count: How many.
    """
    flat = torch.nan_to_num(scores.float().reshape(-1), nan=0.0)
    values, places = flat.topk(min(count, flat.numel()))
    found = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if kind == "norm":
            found.append(norm_candidate(name, place, source, value))
        else:
            found.append(slice_candidate(name, kind, _unravel(place, scores.shape), source, value))
    return found


def interleave(rankings: Iterable[Sequence[Candidate]], *, limit: int | None) -> list[Candidate]:
    """The first of every ranking, then the second of every, ... each place once, with all of its sources.

    Rankings are not mixed by score: no source has to be right, or on the same scale, for another one to be heard.
    """
    found: dict[tuple[str, str, Index], Candidate] = {}
    for rank in zip_longest(*rankings):
        for one in rank:
            if one is None:
                continue
            known = found.get(one.place)
            if known is None and (limit is None or len(found) < limit):
                found[one.place] = one
            elif known is not None:
                sources = tuple(dict.fromkeys((*known.sources, *one.sources)))
                found[one.place] = replace(known, sources=sources)
    return list(found.values())


def given_candidate(model: nn.Module, tensors: Tensors, given: Any) -> Candidate:
    """A dimension that somebody names: (name, index), (name, index, axis), (name, (row, column)), or an object.

    Raises:
        InputError: It is none of these, or the model has no such parameter or index.
    """
    if all(hasattr(given, field) for field in ("parameter", "axis", "index")):
        given = (given.parameter, given.index, given.axis)
    if not isinstance(given, (tuple, list)) or len(given) not in _PARTS or not isinstance(given[0], str):
        raise InputError(
            f"A dimension is (name, index), (name, index, axis) of a matrix, (name, (row, column)) of a single weight, or an "
            f"object with parameter, axis and index; got {given!r}."
        )
    name, index, axis = (*given, None)[:3]
    found = find_weight(model, name).name
    if found in tensors.norms:
        (place,) = _checked(found, index, tuple(tensors.norms[found].parameter.shape))
        return norm_candidate(found, place, "given")
    if found not in tensors.matrices:
        raise InputError(
            f"{found!r} is neither a norm gain nor a matrix of the decoder layers; only these are scanned. Use "
            "scale_dimension and evaluate_perplexity for it."
        )
    return _in_matrix(tensors, found, index, axis)


def require_kinds(kinds: Sequence[str]) -> tuple[Kind, ...]:
    """Return the kinds if they are some.

    Raises:
        InputError: They are not.
    """
    chosen = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not chosen or not set(chosen) <= set(get_args(Kind)):
        raise InputError(f"kinds are some of {list(get_args(Kind))}, got {kinds!r}.")
    return chosen  # type: ignore[return-value]


def _in_matrix(tensors: Tensors, name: str, index: Any, axis: Any) -> Candidate:
    shape = tuple(tensors.matrices[name].values().shape)
    whole = isinstance(index, (tuple, list)) and len(index) == len(shape)
    if whole:
        return slice_candidate(name, "weight", _checked(name, index, shape), "given")
    if axis not in {0, 1}:
        raise InputError(
            f"{name!r} is a matrix of shape {shape}: say which axis, ({name!r}, {index!r}, axis). 0 is an output (a row), 1 an "
            "input (a column); a single weight is (name, (row, column))."
        )
    kept = (*shape[:-2], shape[-2 + axis])
    return slice_candidate(name, "column" if axis else "row", _checked(name, index, kept), "given")


def _checked(name: str, index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        places = tuple(operator.index(one) for one in (index if isinstance(index, (tuple, list)) else [index]))
    except TypeError as error:
        raise InputError(f"An index is a whole number or several, got {index!r}.") from error
    if len(places) != len(shape) or not all(0 <= one < size for one, size in zip(places, shape, strict=True)):
        ranges = " x ".join(f"0 to {size - 1}" for size in shape)
        raise InputError(f"{name!r} has the indices {ranges}, got {index!r}.")
    return places


def _unravel(place: int, shape: Sequence[int]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        place, one = divmod(place, size)
        index.append(one)
    return tuple(reversed(index))

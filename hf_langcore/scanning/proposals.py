"""All sources together: what is to be edited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_langcore.evaluation import ScoringTask
from hf_langcore.masks import CoreMask
from hf_langcore.scanning.candidates import Candidate, Kind, given_candidate, interleave, norm_candidate
from hf_langcore.scanning.from_activations import activation_candidates
from hf_langcore.scanning.from_gradients import gradient_candidates
from hf_langcore.scanning.from_mask import mask_candidates
from hf_langcore.scanning.from_weights import weight_candidates
from hf_langcore.scanning.tensors import Tensors

SOURCES = ("activations", "gradients", "weights")

_LONGEST = 128  # of a ranking, where the number of candidates has no limit


@dataclass(frozen=True, slots=True)
class Request:
    """What is looked for; see `find_critical_dimensions`."""

    kinds: tuple[Kind, ...]
    sources: tuple[str, ...] = SOURCES
    core_mask: CoreMask | None = None
    dimensions: tuple[Any, ...] = ()
    limit: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for the settings of a result."""
        return {
            "kinds": list(self.kinds),
            "sources": list(self.sources),
            "core_mask": None if self.core_mask is None else self.core_mask.digest(),
            "candidates": self.limit,
        }


def propose(model: nn.Module, tensors: Tensors, task: ScoringTask, request: Request) -> list[Candidate]:
    """The places that are to be edited: those that are named, then the first of every ranking, the second, ...

    Raises:
        InputError: A dimension that is named does not exist.
    """
    named = [given_candidate(model, tensors, one) for one in request.dimensions]
    rankings = [
        ranking
        for found in _rankings(model, tensors, task, request)
        if (ranking := [one for one in found if one.kind in request.kinds])
    ]
    proposed = interleave(rankings, limit=None)
    gains = _all_gains(tensors) if "norm" in request.kinds else []
    if request.limit is None:
        return interleave([[*named, *proposed, *gains]], limit=None)
    # Where there is room for every norm dimension, none has to be proposed by anybody.
    room = request.limit if set(request.kinds) == {"norm"} else request.limit // 2
    if len(gains) <= room:
        others = [one for one in proposed if one.kind != "norm"][: request.limit - len(gains)]
        proposed = [*interleave([[one for one in proposed if one.kind == "norm"], others], limit=None), *gains]
    return interleave([[*named, *proposed, *gains]], limit=request.limit + len(named))


def _rankings(model: nn.Module, tensors: Tensors, task: ScoringTask, request: Request) -> Iterator[list[Candidate]]:
    length = _LONGEST if request.limit is None else max(_LONGEST, request.limit)
    if request.core_mask is not None:
        yield from mask_candidates(tensors, request.core_mask, limit=length)
    if "activations" in request.sources:
        yield from activation_candidates(model, tensors, task, limit=length)
    if "gradients" in request.sources:
        yield from gradient_candidates(model, tensors, task, limit=length)
    if "weights" in request.sources:
        yield from weight_candidates(tensors, limit=length)


def _all_gains(tensors: Tensors) -> list[Candidate]:
    return [
        norm_candidate(name, index, "all")
        for name, weight in tensors.norms.items()
        for index in range(weight.parameter.numel())
    ]

"""Candidates from a core mask: the rows, columns and gains in which it concentrates."""

from __future__ import annotations

from collections.abc import Sequence

from hf_langcore.masks import CoreMask
from hf_langcore.scanning.candidates import Candidate, Kind, norm_candidate, slice_candidate
from hf_langcore.scanning.tensors import Tensors

SOURCE = "mask"

_KINDS: Sequence[Kind] = ("row", "column")


def mask_candidates(tensors: Tensors, core_mask: CoreMask, *, limit: int = 64) -> list[list[Candidate]]:
    """Two rankings by how surprising the concentration is: norm gains, and rows and columns.

    Args:
        tensors: What of the model can be scanned.
        core_mask: A mask of this model.
        limit: Length of each ranking.
    """
    gains: list[Candidate] = []
    slices: list[Candidate] = []
    for one in core_mask.dimensions():
        if one.parameter in tensors.norms:
            gains.append(norm_candidate(one.parameter, one.index, SOURCE, one.evidence))
        matrix = tensors.matrices.get(one.parameter)
        if matrix is not None and not matrix.is_stacked:
            slices.append(slice_candidate(one.parameter, _KINDS[one.axis], [one.index], SOURCE, one.evidence))
    return [ranking[:limit] for ranking in (gains, slices) if ranking]

"""Candidates from the weights alone, without any text.

The score of super weights is the norm of what a row of the output projection can write, each neuron counting by the norms of
its rows in the input projections: sqrt(sum over i of W_down[k, i]^2 |W_gate[i]|^2 |W_up[i]|^2), and its single terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from hf_langcore.architecture import Weight
from hf_langcore.scanning.candidates import Candidate, largest
from hf_langcore.scanning.tensors import Tensors

SOURCE = "weights"

_OF_EACH = 4  # places of one tensor that may be proposed
_FEWEST_PEERS = 3
_TINY = 1e-12
_SPREAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


def weight_candidates(tensors: Tensors, *, limit: int = 64) -> list[list[Candidate]]:
    """Rankings of outlying gains, of super weights, and of rows, columns and entries with outlying values.

    Args:
        tensors: What of the model can be scanned.
        limit: Length of each ranking.
    """
    rankings = [_gains(tensors.norms), *_super_weights(tensors), *_outliers(tensors)]
    return [sorted(one, key=lambda found: -found.score)[:limit] for one in rankings if one]


def _gains(norms: Mapping[str, Weight]) -> list[Candidate]:
    """Gains far from the others of their norm and from the same dimension's in other norms."""
    gains = {name: weight.parameter.detach().float() + weight.gain_offset for name, weight in norms.items()}
    found: list[Candidate] = []
    for name, gain in gains.items():
        peers = [other for other in gains.values() if other.shape == gain.shape]
        across = torch.stack(peers).median(dim=0).values if len(peers) >= _FEWEST_PEERS else gain.median()
        score = _robust(gain) + _robust(gain - across)
        found += largest(name, "norm", score, SOURCE, count=2 * _OF_EACH)
    return found


def _super_weights(tensors: Tensors) -> Iterator[list[Candidate]]:
    entries: list[Candidate] = []
    rows: list[Candidate] = []
    for module in tensors.feed_forwards:
        reach = module.output.values().float().abs() * module.strengths().unsqueeze(-2)
        entries += largest(module.output.name, "weight", _relative(reach), SOURCE, count=_OF_EACH)
        rows += largest(module.output.name, "row", _relative(reach.norm(dim=-1)), SOURCE, count=_OF_EACH)
    yield entries
    yield rows


def _outliers(tensors: Tensors) -> Iterator[list[Candidate]]:
    rows: list[Candidate] = []
    columns: list[Candidate] = []
    entries: list[Candidate] = []
    for name, matrix in tensors.matrices.items():
        values = matrix.values().float()
        entries += largest(name, "weight", _relative(values.abs()), SOURCE, count=_OF_EACH)
        rows += largest(name, "row", _robust(values.norm(dim=-1)), SOURCE, count=_OF_EACH)
        columns += largest(name, "column", _robust(values.norm(dim=-2)), SOURCE, count=_OF_EACH)
    yield entries
    yield rows
    yield columns


def _robust(values: torch.Tensor) -> torch.Tensor:
    """Distance from the median in robust standard deviations."""
    distance = (values - values.median()).abs()
    return distance / (_SPREAD * distance.median()).clamp_min(_TINY + 1e-3 * values.abs().median())


def _relative(values: torch.Tensor) -> torch.Tensor:
    return values / values.median().clamp_min(_TINY)

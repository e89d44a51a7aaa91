"""Statistics of relative changes, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """How much one tensor changed in training in each of several languages.

    Attributes:
        size: Number of weights.
        union: By threshold: number of weights that change by more in at least one language.
        share: Language -> by threshold: number of weights that change by more.
        quantiles: Language -> relative change at each of `QUANTILES`.
    """

    size: int
    union: tuple[int, ...]
    share: Mapping[str, tuple[int, ...]]
    quantiles: Mapping[str, tuple[float, ...]]


def tensor_statistics(changes: Mapping[str, torch.Tensor], thresholds: Sequence[float]) -> TensorStatistics:
    """Count and rank the changes of one tensor.

    Args:
        changes: Language -> relative change of each weight; infinite where a weight was 0.
        thresholds: Relative changes.
    """
    largest = torch.stack([change.reshape(-1) for change in changes.values()]).amax(dim=0)
    return TensorStatistics(
        size=largest.numel(),
        union=_above(largest, thresholds),
        share={language: _above(change, thresholds) for language, change in changes.items()},
        quantiles={language: _quantiles(change) for language, change in changes.items()},
    )


def place(name: str) -> tuple[int, str]:
    """Layer and kind of a tensor: (3, "self_attn.q_proj.weight") of "model.layers.3.self_attn.q_proj.weight"."""
    found = _LAYER.search(name)
    return (0, name) if found is None else (int(found[1]), name[found.end() :])


def kind_labels(names: Iterable[str]) -> dict[str, str]:
    """Kind -> a short name: its last word where no other kind has the same."""
    kinds = list(dict.fromkeys(place(name)[1] for name in names))
    plain = {kind: kind.removesuffix(".weight") for kind in kinds}
    last = [one.rpartition(".")[2] for one in plain.values()]
    return {kind: one if last.count(tail := one.rpartition(".")[2]) > 1 else tail for kind, one in plain.items()}


def _above(change: torch.Tensor, thresholds: Sequence[float]) -> tuple[int, ...]:
    return tuple(int((change > threshold).sum()) for threshold in thresholds)


def _quantiles(change: torch.Tensor) -> tuple[float, ...]:
    # torch.quantile takes at most 16 million numbers; "lower" keeps out of the infinite ones.
    found = np.quantile(change.reshape(-1).numpy(), QUANTILES, method="lower")
    return tuple(float(one) for one in found)

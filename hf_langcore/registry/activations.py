"""Massive activations that a source reports: are they here, and what happens without them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.errors import InputError
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.measuring import Bench, Measured
from hf_langcore.registry.results import MeasuredActivation
from hf_langcore.sinks.massive import (
    Activations,
    MassiveActivation,
    dimensions_by_layer,
    find_massive_activations,
    mean_activations,
    measure_activations,
    zero_activations,
)
from hf_langcore.sinks.residual import decoder_layers


@dataclass(frozen=True, slots=True)
class ActivationFigures:
    """What setting a group of massive dimensions did.

    Attributes:
        zero: To zero.
        mean: To their mean.
        control: Zeroing as many other dimensions at the same tokens; None where there are no others.
    """

    zero: Measured
    mean: Measured
    control: float | None


class MassiveBench:
    """The massive activations of a model on a text, found in one forward pass."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.found = find_massive_activations(bench.model, bench.task, batch_size=bench.batch_size)
        self._figures: dict[tuple[int, ...], ActivationFigures] = {}

    def at(self, dimension: int) -> MeasuredActivation | None:
        """What a dimension holds, None where it is nowhere massive."""
        mine = [one for one in self.found if one.dimension == dimension]
        if not mine:
            return None
        peaks: dict[int, float] = {}
        for one in self.found:
            peaks[one.dimension] = max(peaks.get(one.dimension, 0.0), abs(one.largest))
        largest = max(mine, key=lambda one: abs(one.largest))
        return MeasuredActivation(
            largest=largest.largest,
            ratio=largest.ratio,
            layers=tuple(sorted(one.layer for one in mine)),
            rank=1 + sum(peak > peaks[dimension] for peak in peaks.values()),
            start_share=largest.start_share,
        )

    def figures(self, dimensions: Sequence[int]) -> ActivationFigures:
        """Set those of the dimensions that are massive to zero and to their mean, wherever they are massive."""
        chosen = tuple(sorted({one.dimension for one in self.found} & set(dimensions)))
        if chosen not in self._figures:
            self._figures[chosen] = self._measure([one for one in self.found if one.dimension in chosen])
        return self._figures[chosen]

    def _measure(self, massive: Sequence[MassiveActivation]) -> ActivationFigures:
        bench = self._bench
        noted = measure_activations(bench.model, bench.task, dimensions_by_layer(massive), batch_size=bench.batch_size)
        zero = bench.effect(zero_activations(bench.model, noted))
        mean = bench.effect(mean_activations(bench.model, noted))
        known = {one.dimension for one in self.found}
        ratios = []
        for number in range(bench.num_controls):
            other = elsewhere(noted, avoid=known, generator=bench.generator("massive", noted.union, number))
            if other is not None:
                ratios.append(bench.effect(zero_activations(bench.model, other)).ratio)
        return ActivationFigures(zero, mean, max(ratios, default=None))


def elsewhere(noted: Activations, *, avoid: set[int], generator: torch.Generator) -> Activations | None:
    """The same layers and tokens with other dimensions, drawn at random; None where there are not enough."""
    free = [one for one in range(noted.width) if one not in avoid]
    if len(free) < len(noted.union):
        return None
    drawn = torch.randperm(len(free), generator=generator)[: len(noted.union)].tolist()
    partner: Mapping[int, int] = {old: free[new] for old, new in zip(noted.union, drawn, strict=True)}
    return replace(
        noted,
        dimensions={layer: tuple(partner[one] for one in chosen) for layer, chosen in noted.dimensions.items()},
        prefixes={(layer, partner[one]): seen for (layer, one), seen in noted.prefixes.items()},
    )


def require_residual(model: nn.Module, entry: Entry) -> None:
    """Refuse an entry whose layer or dimension this model does not have.

    Raises:
        InputError: Which of the two is missing.
    """
    count = len(decoder_layers(model))
    if entry.layer is not None and entry.layer >= count:
        raise InputError(
            f"The model has the decoder layers 0 to {count - 1}, so that there is no layer {entry.layer}."
        )
    for name in entry.tensors:
        module = name.replace("{layer}", "0")
        try:
            unwrap(model).get_submodule(module)
        except AttributeError:
            raise InputError(
                f"The model has no module {module!r}, whose output would be the residual stream."
            ) from None
    width = _width(model)
    if width is not None and any(one >= width for one in entry.place):
        raise InputError(
            f"The residual stream has dimensions 0 to {width - 1}, so that there is no dimension {entry.index}."
        )


def _width(model: nn.Module) -> int | None:
    config: Any = getattr(unwrap(model), "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(config, "hidden_size", None)
    return size if isinstance(size, int) else None

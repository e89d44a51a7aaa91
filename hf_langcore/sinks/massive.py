"""Massive activations: the few entries of the hidden states that are orders of magnitude larger than all others.

Sun et al. (arXiv 2402.17762) found them in the output of decoder layers, at the start token and at delimiters, in a few fixed
dimensions, with values that hardly depend on the text; they are what attention sinks are made of. They call an entry
massive where its magnitude is above 100 and above about 1000 times the median of the hidden states there. A magnitude of 100 means nothing in a
small model, so here the ratio alone decides unless a magnitude is asked for, and 100 times is enough by default: the hidden states of
a model that has not learnt anything stay below 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import Window, require_decoder_only
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.modes import forget_alteration, note_alteration
from hf_langcore.sinks.activation_sums import Extremes, Notes
from hf_langcore.sinks.residual import Batch, decoder_layers, observe, watching, windows_of

Positions = Literal["massive", "start", "all"]

RATIO = 100.0
"""Times the median magnitude from which an activation is called massive here."""
PUBLISHED_RATIO, PUBLISHED_MAGNITUDE = 1000.0, 100.0
"""Above both in Sun et al."""

_SHOWN = 8  # dimensions that a note names


@dataclass(frozen=True, slots=True)
class MassiveActivation:
    """One dimension of the residual stream behind one layer, where it is massive.

    Attributes:
        layer: Index of the decoder layer whose output it is.
        dimension: Index along the hidden states.
        largest: Its value of largest magnitude, with sign.
        median: Median magnitude of the hidden states of the text window in which that value is.
        positions: Tokens at which it is massive.
        start_positions: How many of these are the start token of a window.
    """

    layer: int
    dimension: int
    largest: float
    median: float
    positions: int
    start_positions: int

    @property
    def ratio(self) -> float:
        """How many times larger than the median; infinite where that is zero."""
        return abs(self.largest) / self.median if self.median else float("inf")

    @property
    def start_share(self) -> float:
        """Share of the massive positions that are start tokens."""
        return self.start_positions / self.positions

    @property
    def is_massive_as_published(self) -> bool:
        """Whether it also meets the definition of Sun et al.: above 100 and above 1000 times the median."""
        return abs(self.largest) > PUBLISHED_MAGNITUDE and self.ratio > PUBLISHED_RATIO


@dataclass(frozen=True, slots=True)
class Activations:
    """What some dimensions of the residual stream hold on some texts, and where.

    Attributes:
        dimensions: Layer -> dimensions.
        width: Size of the hidden states.
        positions: "massive" (where they were massive), "start" (start tokens) or "all".
        start_means: Layer -> mean of each dimension at start tokens; those where none was massive hold None.
        other_means: The same at other tokens.
        prefixes: For "massive", the beginnings of text, by hash, whose last token is massive; what a token's hidden state is
            depends on nothing else.
    """

    dimensions: Mapping[int, tuple[int, ...]]
    width: int
    positions: Positions
    start_means: Mapping[int, tuple[float | None, ...]]
    other_means: Mapping[int, tuple[float | None, ...]]
    prefixes: Mapping[tuple[int, int], frozenset[int]]

    @property
    def union(self) -> tuple[int, ...]:
        """All dimensions, ascending."""
        return tuple(sorted({one for dimensions in self.dimensions.values() for one in dimensions}))


def find_massive_activations(
    model: nn.Module,
    texts: ScoringTask | Sequence[Window],
    *,
    ratio: float = RATIO,
    magnitude: float = 0.0,
    batch_size: int | Literal["auto"] = "auto",
) -> list[MassiveActivation]:
    """Find massive activations in one forward pass over the texts.

    An entry is massive where its magnitude is at least `ratio` times the median magnitude of its window's hidden states behind that
    layer, and at least `magnitude`.

    Args:
        model: A causal LM, bare or wrapped, as it is now.
        texts: Prepared texts, or windows of them.
        ratio: Times the median.
        magnitude: Absolute threshold; `ratio=1000, magnitude=100` is the definition of Sun et al.
        batch_size: Windows per forward pass.

    Returns:
        One entry for each layer and dimension, largest ratio first; none where nothing is massive.

    Raises:
        InputError: A threshold makes no sense, or there are no texts.
        UnsupportedModelError: The layers of the model were not found.
    """
    _check_thresholds(ratio, magnitude)
    require_decoder_only(unwrap(model), "The search for massive activations")
    sums: dict[int, Extremes] = {}

    def look(layer: int, hidden: torch.Tensor, batch: Batch) -> None:
        sums.setdefault(layer, Extremes(hidden)).add(hidden, batch, ratio, magnitude)

    observe(model, windows_of(texts), look, batch_size)
    found = [MassiveActivation(layer, *row) for layer, extremes in sums.items() for row in extremes.found()]
    return sorted(found, key=lambda one: (-one.ratio, one.layer, one.dimension))


def dimensions_by_layer(found: Iterable[MassiveActivation]) -> dict[int, tuple[int, ...]]:
    """Layer -> dimensions that are massive there, ascending."""
    layers: dict[int, set[int]] = {}
    for one in found:
        layers.setdefault(one.layer, set()).add(one.dimension)
    return {layer: tuple(sorted(layers[layer])) for layer in sorted(layers)}


def measure_activations(
    model: nn.Module,
    texts: ScoringTask | Sequence[Window],
    dimensions: Mapping[int, Sequence[int]],
    *,
    positions: Positions = "massive",
    ratio: float = RATIO,
    magnitude: float = 0.0,
    batch_size: int | Literal["auto"] = "auto",
) -> Activations:
    """Note what dimensions of the residual stream hold, and where, in one forward pass: for `zero_activations` and `mean_activations`.

    Args:
        model: A causal LM, in the state that its means are wanted of.
        texts: Prepared texts, or windows of them.
        dimensions: Layer -> dimensions, such as `dimensions_by_layer` gives.
        positions: Where: "massive" by the thresholds, at "start" tokens, or at "all".
        ratio: As in `find_massive_activations`.
        magnitude: As in `find_massive_activations`.
        batch_size: Windows per forward pass.

    Raises:
        InputError: A layer or dimension is out of range, a threshold makes no sense, or there are no texts.
    """
    _check_thresholds(ratio, magnitude)
    if positions not in get_args(Positions):
        raise InputError(f"positions must be one of {list(get_args(Positions))}, got {positions!r}.")
    chosen = {layer: tuple(dimensions[layer]) for layer in sorted(dimensions)}
    _check_layers(model, chosen)
    notes = Notes(chosen, positions, ratio, magnitude)
    observe(model, windows_of(texts), notes.add, batch_size)
    return Activations(chosen, notes.width, positions, notes.start_means(), notes.other_means(), notes.prefixes())


@contextmanager
def zero_activations(model: nn.Module, activations: Activations) -> Iterator[None]:
    """Set activations to zero, at the positions where they were noted, as long as the context is open.

    Positions are known by the text before them. On other texts than those noted only start tokens are so changed, which all
    texts share; positions noted as "start" and "all" are so everywhere. In generation with a cache, tokens after the
    prompt are changed for "all" only.

    Args:
        model: The model, bare or wrapped; weights stay as they are.
        activations: From `measure_activations`.
    """
    zeros = {layer: (0.0,) * len(chosen) for layer, chosen in activations.dimensions.items()}
    with _held(model, activations, zeros, zeros, "zero"):
        yield


@contextmanager
def mean_activations(model: nn.Module, activations: Activations) -> Iterator[None]:
    """Set activations to the mean that was noted, as `zero_activations` sets them to zero.

    Start tokens get the mean over start tokens, others the mean over others: massive activations differ between the two.
    """
    with _held(model, activations, activations.start_means, activations.other_means, "mean"):
        yield


@contextmanager
def _held(
    model: nn.Module,
    activations: Activations,
    start: Mapping[int, Sequence[float | None]],
    other: Mapping[int, Sequence[float | None]],
    word: str,
) -> Iterator[None]:
    def hold(layer: int, hidden: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        if layer not in activations.dimensions:
            return None
        changed = hidden.clone()
        starts = batch.starts
        for column, dimension in enumerate(activations.dimensions[layer]):
            where = _where(activations, layer, dimension, batch)
            for value, there in ((start[layer][column], where & starts), (other[layer][column], where & ~starts)):
                if value is not None:
                    changed[..., dimension].masked_fill_(there.to(hidden.device), value)
        return changed

    layers = len(activations.dimensions)
    shown = ", ".join(map(str, activations.union[:_SHOWN])) + (", ..." if len(activations.union) > _SHOWN else "")
    what = f"{word}: activations {shown} behind {layers} layer{'' if layers == 1 else 's'}, {activations.positions}"
    with watching(model, hold):
        note_alteration(model, what)
        try:
            yield
        finally:
            forget_alteration(model, what)


def _where(activations: Activations, layer: int, dimension: int, batch: Batch) -> torch.Tensor:
    if activations.positions != "massive":
        return batch.starts if activations.positions == "start" else batch.present
    if batch.continues:
        return torch.zeros_like(batch.present)
    seen = activations.prefixes.get((layer, dimension), frozenset())
    return torch.tensor([[one in seen for one in row] for row in batch.prefixes()]) & batch.present


def _check_layers(model: nn.Module, dimensions: Mapping[int, tuple[int, ...]]) -> None:
    count = len(decoder_layers(model))
    if not dimensions or not all(0 <= layer < count for layer in dimensions):
        raise InputError(
            f"The model has layers 0 to {count - 1}, got {list(dimensions)}: pass layer -> dimensions, at least one layer."
        )


def _check_thresholds(ratio: float, magnitude: float) -> None:
    if not ratio > 1 or not magnitude >= 0:
        raise InputError(
            f"ratio must be above 1 and magnitude at least 0, got ratio={ratio!r}, magnitude={magnitude!r}."
        )

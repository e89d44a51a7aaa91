"""The conditions of the test "sink or language?": what is done to the model in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import nn

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.masks import CoreMask
from hf_langcore.masks.matched import (
    MatchedMask,
    magnitude_matched,
    profile_and_magnitude_matched,
    profile_matched,
)
from hf_langcore.sinks import rows as names
from hf_langcore.sinks.massive import (
    Activations,
    MassiveActivation,
    Positions,
    dimensions_by_layer,
    find_massive_activations,
    mean_activations,
    measure_activations,
    zero_activations,
)
from hf_langcore.sinks.part import region_of_dimensions
from hf_langcore.sinks.residual import decoder_layers, hidden_width

_OUTLIER_RATIO = 2.0  # low enough that some dimension passes in any model
_NAMED = 3

Opened = Callable[[], AbstractContextManager[Any]]

NEED_SINK = (
    names.WITHOUT,
    names.ONLY,
    names.HELD,
    names.ACTIVATIONS_ZERO,
    names.ACTIVATIONS_MEAN,
    names.PART_MEAN,
)
"""Conditions that speak of massive dimensions."""


@dataclass(frozen=True, slots=True)
class Sink:
    """What is taken to be the sink.

    Attributes:
        dimensions: The dimensions of the residual stream.
        positions: Where their activations are changed: "massive" or "all".
        activations: Measures them when it is first called, which has to be before the model is edited.
        part: What of the core meets these dimensions.
        rest: What does not.
    """

    dimensions: tuple[int, ...]
    positions: Positions
    activations: Callable[[], Activations]
    part: CoreMask
    rest: CoreMask


def find_sink(
    model: nn.Module,
    task: ScoringTask,
    core_mask: CoreMask,
    massive: Sequence[MassiveActivation],
    asked: Sequence[int] | None,
    settings: tuple[float, float, int | Literal["auto"]],
) -> Sink | None:
    """The massive dimensions, or those asked for; None where there are neither."""
    if asked is not None and not asked:
        raise InputError("dimensions is empty: name at least one, or pass None for those with massive activations.")
    wanted = sorted({one.dimension for one in massive} if asked is None else set(asked))
    if not wanted:
        return None
    ratio, magnitude, batch_size = settings
    where = dimensions_by_layer(one for one in massive if one.dimension in wanted)
    everywhere = dict.fromkeys(range(len(decoder_layers(model))), wanted)
    positions: Positions = "massive" if where else "all"
    region = region_of_dimensions(model, core_mask, wanted, width=hidden_width(model, task))

    @cache
    def activations() -> Activations:
        return measure_activations(
            model,
            task,
            where or everywhere,
            positions=positions,
            ratio=ratio,
            magnitude=magnitude,
            batch_size=batch_size,
        )

    return Sink(tuple(wanted), positions, activations, core_mask & region, core_mask - region)


def edits_of(
    model: nn.Module, core_mask: CoreMask, sink: Sink | None, opened: Callable[..., AbstractContextManager[Any]]
) -> Mapping[str, tuple[int, Opened]]:
    """Condition -> number of edited weights, and what opens it."""
    size = core_mask.count()
    edits: dict[str, tuple[int, Opened]] = {names.CORE_MEAN: (size, lambda: opened(core_mask, how="mean"))}
    if sink is None:
        return edits
    found = sink

    def hold_zero() -> AbstractContextManager[Any]:
        return zero_activations(model, found.activations())

    def hold_mean() -> AbstractContextManager[Any]:
        return mean_activations(model, found.activations())

    return edits | {
        names.WITHOUT: (found.rest.count(), lambda: opened(found.rest)),
        names.ONLY: (found.part.count(), lambda: opened(found.part)),
        names.HELD: (size, lambda: _together(hold_mean, lambda: opened(core_mask))),
        names.ACTIVATIONS_ZERO: (0, hold_zero),
        names.ACTIVATIONS_MEAN: (0, hold_mean),
        names.PART_MEAN: (size, lambda: _together(lambda: opened(found.part, how="mean"), lambda: opened(found.rest))),
    }


@contextmanager
def _together(*parts: Opened) -> Iterator[None]:
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(part())
        yield


def controls_of(model: nn.Module, core_mask: CoreMask) -> dict[str, Callable[[int], MatchedMask]]:
    """Control -> what draws it by seed."""
    weights = {name: weight.parameter for name, weight in bare_weights(model).items() if name in core_mask}

    def plain(seed: int) -> MatchedMask:
        drawn = core_mask.random_like(seed=seed)
        return MatchedMask(drawn, {}, {name: (core_mask & drawn).count(name) for name in core_mask})

    return {
        names.RANDOM: plain,
        names.MAGNITUDE: lambda seed: magnitude_matched(core_mask, weights, seed=seed),
        names.PROFILE: lambda seed: profile_matched(core_mask, seed=seed),
        names.BOTH: lambda seed: profile_and_magnitude_matched(core_mask, weights, seed=seed),
    }


def nearest_outliers(
    model: nn.Module, task: ScoringTask, *, batch_size: int | Literal["auto"] = "auto"
) -> list[MassiveActivation]:
    """The strongest layer of every dimension that stands out at least twofold, largest ratio first."""
    found: dict[int, MassiveActivation] = {}
    for one in find_massive_activations(model, task, ratio=_OUTLIER_RATIO, batch_size=batch_size):
        found.setdefault(one.dimension, one)
    return list(found.values())


def why_nothing(model: nn.Module, task: ScoringTask, ratio: float, batch_size: int | Literal["auto"]) -> str:
    """Why there is no sink, and which dimensions come nearest to one."""
    outliers = nearest_outliers(model, task, batch_size=batch_size)[:_NAMED]
    largest = f"; the largest is {outliers[0].ratio:.0f} times the median" if outliers else ""
    named = [one.dimension for one in outliers]
    ask = f" dimensions={named} tests the largest ones all the same." if named else ""
    return f"the model has no massive activations on this text (at least {ratio:g} times the median{largest}).{ask}"

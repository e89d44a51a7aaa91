"""Measuring what edits do: one text, one model without an edit, and any number of edits compared with it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.places import Coordinates, Place, controls, edit, find_places
from hf_langcore.scanning.losses import WindowLosses, measure
from hf_langcore.scanning.statistics import Interval, ratio_interval, require_enough_text


@dataclass(frozen=True, slots=True)
class Measured:
    """What an edit did.

    Attributes:
        ratio: Perplexity with the edit / without.
        interval: Its interval, or why the text is too short for one.
    """

    ratio: float
    interval: Interval | str

    @property
    def drawn(self) -> Interval | None:
        """The interval, if there is one."""
        return self.interval if isinstance(self.interval, Interval) else None


class Bench:
    """A model, a text and the losses without an edit."""

    def __init__(
        self,
        model: nn.Module,
        task: ScoringTask,
        *,
        num_controls: int,
        level: float,
        samples: int,
        seed: int,
        batch_size: int | Literal["auto"],
    ) -> None:
        self.model, self.task = model, task
        self.num_controls = num_controls
        self._level, self._samples, self._seed = level, samples, seed
        self.batch_size: int | Literal["auto"] = batch_size
        self.base: WindowLosses = measure(model, task, batch_size=batch_size)
        if not self.base.perplexity < float("inf"):
            raise NonFiniteError(
                "The model gives NaN or infinite losses without any edit, so nothing can be compared with it. Load it in float32 "
                "or bfloat16 instead of float16, and restore open edits first."
            )
        self._too_short = _too_short(self.base)

    def generator(self, *parts: Any) -> torch.Generator:
        """A generator that depends on the seed and on what is drawn for, not on what was drawn before."""
        return torch.Generator().manual_seed(zlib.crc32(repr((self._seed, *parts)).encode()))

    def effect(self, *edits: AbstractContextManager[Any]) -> Measured:
        """Measure under open edits, which end afterwards."""
        with ExitStack() as stack:
            for one in edits:
                stack.enter_context(one)
            edited = measure(self.model, self.task, batch_size=self.batch_size)
        ratio = edited.perplexity / self.base.perplexity
        if self._too_short is not None:
            return Measured(ratio, self._too_short)
        interval = ratio_interval(self.base, edited, level=self._level, samples=self._samples, seed=self._seed)
        return Measured(ratio, interval)


@dataclass(frozen=True, slots=True)
class WeightFigures:
    """What the edit of a weight did, alone and together with its group.

    Attributes:
        name: The tensor; of several that may be meant, the one that did most.
        alone: The edit of the entry.
        control: Largest ratio of the controls of `alone`; None where there are none.
        joint: The edit of the whole group; None where the entry has none.
        joint_control: The same for as many control places.
    """

    name: str
    alone: Measured
    control: float | None
    joint: Measured | None = None
    joint_control: float | None = None


def weight_figures(bench: Bench, entry: Entry, group: Sequence[Entry]) -> WeightFigures:
    """Edit an entry's place, its controls, and its group.

    Args:
        bench: The model and the text.
        entry: About a weight.
        group: All entries of its group, itself included; it alone where it has none.

    Raises:
        InputError: The tensor or index is missing.
        UnsupportedModelError: The weight cannot be edited.
    """
    taken = _taken(bench.model, group)
    tried = [(bench.effect(lazily(bench.model, place, entry)), place) for place in find_places(bench.model, entry)]
    alone, place = max(tried, key=lambda one: one[0].ratio)
    others = controls(place, count=bench.num_controls, taken=taken, generator=bench.generator(entry.id))
    ratios = [bench.effect(lazily(bench.model, one, entry)).ratio for one in others]
    joint = joint_control = None
    if len(group) > 1:
        joint, joint_control = _joint_figures(bench, group, taken)
    return WeightFigures(place.name, alone, max(ratios, default=None), joint, joint_control)


@contextmanager
def lazily(model: nn.Module, place: Place, entry: Entry) -> Iterator[None]:
    """An edit that begins when the context is entered, so that several can nest."""
    with edit(model, place, entry):
        yield


def _joint_figures(
    bench: Bench, group: Sequence[Entry], taken: set[tuple[str, Coordinates]]
) -> tuple[Measured | None, float | None]:
    try:
        places = [(find_places(bench.model, one)[0], one) for one in group]
    except InputError:  # part of the group is missing in this revision
        return None, None
    joint = bench.effect(*(lazily(bench.model, place, one) for place, one in places))
    ratios = []
    for number in range(bench.num_controls):
        drawn = [
            (controls(place, count=1, taken=taken, generator=bench.generator(one.id, number)), one)
            for place, one in places
        ]
        if all(each for each, _ in drawn):
            ratios.append(bench.effect(*(lazily(bench.model, each[0], one) for each, one in drawn)).ratio)
    return joint, max(ratios, default=None)


def _taken(model: nn.Module, group: Sequence[Entry]) -> set[tuple[str, Coordinates]]:
    found: set[tuple[str, Coordinates]] = set()
    for one in group:
        try:
            found |= {(place.name, place.at) for place in find_places(model, one)}
        except (InputError, UnsupportedModelError):
            continue
    return found


def _too_short(losses: WindowLosses) -> str | None:
    try:
        require_enough_text(losses)
    except CorpusError as error:
        return str(error)
    return None

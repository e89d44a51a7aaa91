"""What an alignment found: figures for each pair of languages and layer, as data, as tables and on the console."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import InputError
from hf_langcore.printing import printed

MEASURES = {
    "rsa": "correlation of the distances between relations",
    "retrieval": "relations found again by a rotation fitted on the others",
    "held_out_error": "error of that rotation on the relation that it was not fitted on",
    "residual": "residual of a rotation fitted on all relations",
    "transport": "transport distance above that within a language",
}
"""Measure -> what it is."""

FALLING = frozenset({"held_out_error", "residual", "transport"})
"""Measures of which less is better aligned."""

_SPREAD = 1.96  # standard errors to each side: 95 %


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of all pairs and layers. NaN where there is no figure.

    Attributes:
        pairs: (layers, languages, languages), symmetric. On the diagonal a language against itself, one half of its
            sentences against the other: about what these sentences can show at best.
        low: Lower ends of the intervals.
        high: Upper ends.
        mean: (layers,), over pairs of different languages.
        draws: (layers, draws), that mean in each draw; of a bootstrap over sentences, or of the seeds.
        chance: (layers,), the mean with the labels of one language shuffled; NaN where that says nothing.
        chance_high: (layers,), what a single pair reaches in one of 20 shuffles, mean over pairs.
        by_seeds: The draws are seeds: intervals are the smallest and the largest. Else they are 95 % intervals of the
            bootstrap's standard error about the figure. (Its percentiles would lie too low: drawing sentences twice adds noise
            to all prototypes, and noise lowers every measure of likeness.)
    """

    pairs: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    draws: NDArray[np.float64]
    chance: NDArray[np.float64]
    chance_high: NDArray[np.float64]
    by_seeds: bool = False

    def interval(self, layer: int) -> tuple[float, float, float]:
        """The mean over pairs at a place of `layers`, with its ends."""
        low, high = ends(self.mean[layer : layer + 1], self.draws[layer], by_seeds=self.by_seeds)
        return float(self.mean[layer]), float(low[0]), float(high[0])


def ends(
    values: NDArray[np.float64], draws: NDArray[np.float64], *, by_seeds: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends about `values`, from draws on the last axis; NaN without draws."""
    if not draws.shape[-1]:
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    if by_seeds:
        return draws.min(-1) + 0 * values, draws.max(-1) + 0 * values
    half = _SPREAD * draws.std(-1, ddof=1) if draws.shape[-1] > 1 else np.nan
    return values - half, values + half


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentReport:
    """How alike languages arrange their relations, by layer.

    Attributes:
        languages: Codes, in the order of all matrices.
        layers: Numbers of the layers; 0 are the embeddings.
        labels: Relations that all of the languages have often enough.
        measures: Name (one of `MEASURES`) -> figures.
        settings: What they depend on.
    """

    languages: tuple[str, ...]
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    measures: Mapping[str, Measure]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def best_layer(self, measure: str = "rsa") -> int:
        """The layer at which the languages are most alike."""
        mean = self.measures[measure].mean
        return self.layers[int(np.nanargmin(mean) if measure in FALLING else np.nanargmax(mean))]

    def matrix(self, measure: str, layer: int) -> NDArray[np.float64]:
        """(languages, languages) at a layer."""
        return np.asarray(self.measures[measure].pairs[self.layers.index(layer)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; None where there is no figure."""
        arrays = ("pairs", "low", "high", "mean", "draws", "chance", "chance_high")
        return {
            "languages": list(self.languages),
            "layers": list(self.layers),
            "labels": list(self.labels),
            "measures": {
                name: {**{one: _plain(getattr(found, one)) for one in arrays}, "by_seeds": found.by_seeds}
                for name, found in self.measures.items()
            },
            "settings": dict(self.settings),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AlignmentReport:
        """Read what `to_dict` gave.

        Raises:
            InputError: It is no alignment, or its figures do not fit its languages and layers.
        """
        try:
            languages, labels = (tuple(map(str, values[name])) for name in ("languages", "labels"))
            layers = tuple(map(int, values["layers"]))
            measures = {str(name): _measure(one) for name, one in values["measures"].items()}
            settings = dict(values["settings"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"This is no alignment ({type(error).__name__}: {error}). Measure it again.") from error
        shape = (len(layers), len(languages), len(languages))
        for name, one in measures.items():
            if name not in MEASURES or one.pairs.shape != shape or one.mean.shape != shape[:1]:
                raise InputError(
                    f"{name!r} has figures of the shape {one.pairs.shape}; {len(layers)} layers and {len(languages)} languages "
                    f"make {shape}. Measure it again."
                )
        return cls(languages, layers, labels, measures, settings)

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        from rich.table import Table

        names = list(self.measures)
        title = f"Alignment of {len(self.labels)} relations, mean over pairs of {len(self.languages)} languages"
        table = Table(title=title, title_justify="left")
        table.add_column("layer", justify="right")
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for place, layer in enumerate(self.layers):
            table.add_row(str(layer), *(_cell(self.measures[name], place) for name in names))
        return table

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), allow_nan=False)


def change(before: AlignmentReport, after: AlignmentReport) -> dict[str, list[tuple[float, float, float]]]:
    """What became of the mean over pairs: measure -> (difference, lower end, upper end) at each layer.

    Both have to be of the same sentences, languages, layers and seeds: then the same draws are compared, and what varies
    alike before and after drops out of the interval.

    Raises:
        InputError: They are not.
    """
    if (before.languages, before.layers, before.labels) != (after.languages, after.layers, after.labels):
        raise InputError(
            "Two alignments are compared over the same languages, layers and relations. Measure both alike."
        )
    found: dict[str, list[tuple[float, float, float]]] = {}
    for name in before.measures.keys() & after.measures.keys():
        old, new = before.measures[name], after.measures[name]
        if old.draws.shape != new.draws.shape:
            raise InputError(
                f"{name!r} was drawn {old.draws.shape[1]} and {new.draws.shape[1]} times. Measure both alike."
            )
        difference = new.mean - old.mean
        low, high = ends(difference, new.draws - old.draws, by_seeds=old.by_seeds)
        found[name] = list(zip(difference.tolist(), low.tolist(), high.tolist(), strict=True))
    return {name: found[name] for name in before.measures if name in found}


def _cell(measure: Measure, place: int) -> str:
    value, low, high = measure.interval(place)
    return "".join(_words(value, low, high, float(measure.chance[place])))


def _words(value: float, low: float, high: float, chance: float) -> Iterator[str]:
    yield f"{value:.3f}"
    if np.isfinite(low):
        yield f" ({low:.3f} to {high:.3f})"
    if np.isfinite(chance):
        yield f", shuffled {chance:.3f}"


def _plain(values: NDArray[np.float64]) -> Any:
    """Lists with six digits, which is more than the intervals are worth."""
    if values.ndim > 1:
        return [_plain(one) for one in values]
    return [float(f"{one:.6g}") if np.isfinite(one) else None for one in values.tolist()]


def _measure(values: Mapping[str, Any]) -> Measure:
    by_seeds = bool(values["by_seeds"])
    arrays = {name: np.array(one, np.float64) for name, one in values.items() if name != "by_seeds"}
    return Measure(by_seeds=by_seeds, **arrays)

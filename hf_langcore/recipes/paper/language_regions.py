"""Regions of single languages: their cores, what is in one core only, and what removing them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from torch import nn

from hf_langcore.editing import perturb
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.report.parts import Cell, Matrix, Spread, Table

Kind = Literal["monolingual", "whole"]
Rises = Mapping[str, float]  # language -> rise of its loss, nats per token

_HEADS = {"monolingual": "monolingual region", "whole": "whole core"}


@dataclass(frozen=True, slots=True)
class Removal:
    """What zeroing one language's region does.

    Attributes:
        language: Whose region it is.
        size: Number of its weights.
        rises: Rise of the loss in every language.
        controls: The same for random regions with as many weights in each tensor.
    """

    language: str
    size: int
    rises: Rises
    controls: tuple[Rises, ...]


class LanguageRegions:
    """The regions of a bench's languages; masks are made when they are needed and kept, scores are not."""

    def __init__(self, bench: Bench, *, fraction: float, among: Sequence[str]) -> None:
        """Nothing is computed yet.

        Args:
            bench: With the model and the texts.
            fraction: Share of each tensor that a core is.
            among: The languages whose cores are taken from each other for the monolingual regions.
        """
        self.bench, self.fraction, self.among = bench, fraction, tuple(among)
        self._cores: dict[str, CoreMask] = {}

    def core(self, language: str) -> CoreMask:
        """The core of one language, from its own importance."""
        if language not in self._cores:
            self._cores[language] = self.bench.core(self.fraction, languages=[language])
        return self._cores[language]

    def monolingual(self, language: str) -> CoreMask:
        """What is core in this language and in none of the others."""
        others = [self.core(other) for other in self.among if other != language]
        return self.core(language) - reduce(CoreMask.__or__, others)

    def region(self, kind: Kind, language: str) -> CoreMask:
        """One of the two."""
        return self.monolingual(language) if kind == "monolingual" else self.core(language)

    def size(self, kind: Kind, language: str) -> int:
        """Number of weights of a region, kept."""
        count: int = self.bench.kept(
            "region-size", self._settings(kind, language), lambda: self.region(kind, language).count()
        )
        return count

    def remove(self, kind: Kind, language: str, *, random_seeds: int) -> Removal:
        """Zero a region and measure all languages; random regions of its size likewise.

        All whole cores have one size in every tensor, and so the same random regions.
        """
        base = self.bench.measure("base")
        region = self._measure(kind, language)
        drawn_like = language if kind == "monolingual" else self.among[0]
        seeds = range(self.bench.settings.seed, self.bench.settings.seed + random_seeds)
        controls = [self._measure(kind, drawn_like, seed=seed) for seed in seeds]
        return Removal(
            language, self.size(kind, language), _rises(base, region), tuple(_rises(base, one) for one in controls)
        )

    def _measure(self, kind: Kind, language: str, *, seed: int | None = None) -> PerplexityReport:
        def edit(model: nn.Module) -> AbstractContextManager[Any]:
            region = self.region(kind, language)
            return perturb(model, region if seed is None else region.random_like(seed=seed))

        name = (
            f"without {_HEADS[kind]} {language}" if seed is None else f"without random {seed} like {kind} {language}"
        )
        return self.bench.measure(name, {**self._settings(kind, language), "random": seed}, edit=edit)

    def _settings(self, kind: Kind, language: str) -> dict[str, Any]:
        among = sorted(self.among) if kind == "monolingual" else None
        return {"region": kind, "language": language, "among": among, "fraction": self.fraction}


def removal_matrix(kind: Kind, removals: Sequence[Removal], languages: Sequence[str]) -> Matrix:
    """Whose region was removed, by whose loss rose; the languages of the regions first, so that they lie on the diagonal."""
    own = [one.language for one in removals]
    columns = (*own, *(language for language in languages if language not in own))
    return Matrix(
        f"{kind}_removal",
        f"Removing the {_HEADS[kind]} of one language: rise of the loss in every language",
        rows=tuple(own),
        columns=columns,
        values=tuple(tuple(one.rises[language] for language in columns) for one in removals),
        unit="nats per token",
        note="A row is the language whose region was set to zero, a column the language that was measured; the first columns "
        "are in the order of the rows, so that a language under the loss of its own region lies on the diagonal.",
        is_signed=True,
    )


def removal_table(kind: Kind, removals: Sequence[Removal], weights: int) -> Table:
    """For each language its own rise beside that of others, of random regions, and under the regions of others."""
    names = [one.language for one in removals]
    rows: list[tuple[Cell, ...]] = []
    for one in removals:
        others = [name for name in names if name != one.language]
        crossed = _mean([other.rises[one.language] for other in removals if other is not one])
        figures = (one.rises[one.language], _mean([one.rises[name] for name in others]), crossed)
        controls = (_spread(one.controls, [one.language]), _spread(one.controls, others))
        rows.append((one.language, one.size, one.size / weights, *figures, *controls))
    means = [_mean(list(map(_value, column))) for column in list(zip(*rows, strict=True))[1:]]
    return Table(
        f"{kind}_regions",
        f"Removing the {_HEADS[kind]}: the own language and the others",
        (
            *("region of", "weights", "share of weights", "rise in its language", "mean rise in the others"),
            *("its language without the others' regions", "random: its language", "random: the others"),
        ),
        (*rows, ("mean", *means)),
        note="Rises of the loss in nats per token. The others are the other languages of this table. Random: regions with as "
        "many weights in every tensor, mean and range over seeds.",
        last_is_total=True,
    )


def own_rises(removals: Sequence[Removal]) -> Any:
    """Regions x their languages, for `own_excess`."""
    names = [one.language for one in removals]
    return np.asarray([[one.rises[name] for name in names] for one in removals], dtype=np.float64)


def _rises(base: PerplexityReport, changed: PerplexityReport) -> Rises:
    return PerplexityReport.compare({"base": base, "changed": changed}).deltas()["changed"]


def _spread(controls: Sequence[Rises], languages: Sequence[str]) -> Spread:
    values = [_mean([one[language] for language in languages]) for one in controls]
    return Spread(_mean(values), min(values), max(values))


def _value(cell: Any) -> float:
    return cell.value if isinstance(cell, Spread) else float(cell)


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))

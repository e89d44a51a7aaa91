"""The paper's table as a section of a report: regions set to zero, in every language."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from torch import nn

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.masks.selection import check_fraction
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.regions import BASE, harm_ratio
from hf_langcore.report.parts import Cell, Curves, Section, Spread, Table

Way = Literal["zero", "noise", "reinit", "shuffle", "mean"]

_REGIONS = ("top", "bottom", "magnitude")
_DONE = {
    "zero": "set to zero",
    "noise": "given Gaussian noise of one standard deviation of their tensor",
    "reinit": "drawn again as before training",
    "shuffle": "exchanged among themselves within each tensor",
    "mean": "set to the mean of their tensor",
}


@dataclass(frozen=True)
class _Regions:
    """The regions of a bench; scores are made when the first mask is needed."""

    bench: Bench
    how: Way

    @cached_property
    def importance(self) -> ImportanceScores:
        return self.bench.scores()

    @cached_property
    def magnitude(self) -> ImportanceScores:
        return compute_importance(self.bench.model, method="magnitude")

    def mask(self, which: str, fraction: float, seed: int) -> CoreMask:
        if which == "magnitude":
            return CoreMask.from_scores(self.magnitude, fraction=fraction)
        return CoreMask.from_scores(self.importance, fraction=fraction, which=which, seed=seed)

    def measure(self, which: str, fraction: float, *, seed: int = 0) -> PerplexityReport:
        def edit(model: nn.Module) -> AbstractContextManager[Any]:
            return perturb(model, self.mask(which, fraction, seed), how=self.how, seed=self.bench.settings.seed)

        settings = {"region": which, "fraction": fraction, "how": self.how, "seed": seed}
        return self.bench.measure(f"{which} {100 * fraction:g} %, {self.how}", settings, edit=edit)


def region_table(
    bench: Bench,
    *,
    fractions: Sequence[float] = (0.01, 0.03, 0.05),
    random_seeds: int = 5,
    how: Way = "zero",
) -> Section:
    """Top, bottom, random and magnitude regions damaged in turn: perplexity in every language.

    Args:
        bench: The workbench; its core languages are those of the importance.
        fractions: Sizes of the regions, as shares of each tensor.
        random_seeds: Number of random regions of each size.
        how: What is done to a region: "zero", "noise", "reinit", "shuffle" or "mean", as in `perturb`.
    """
    sizes = sorted({check_fraction(fraction) for fraction in fractions})
    _check(sizes, random_seeds, how)
    start = time.perf_counter()
    bench.progress.expect(1 + len(sizes) * (len(_REGIONS) + random_seeds))
    base = bench.measure(BASE)
    regions = _Regions(bench, how)
    reports = {fraction: _measure(regions, base, fraction, random_seeds) for fraction in sizes}
    tables = tuple(_table(report, fraction, how) for fraction, report in reports.items())
    return Section(
        "table",
        f"Regions {_DONE[how]}",
        (_what(bench, how), *(_verdict(report, fraction) for fraction, report in reports.items())),
        (*tables, *([_curves(reports)] if len(sizes) > 1 else [])),
        facts={**bench.facts(), "fractions": sizes, "random_seeds": random_seeds, "how": how},
        seconds=time.perf_counter() - start,
    )


def _check(sizes: Sequence[float], random_seeds: int, how: str) -> None:
    if not sizes:
        raise InputError("fractions needs at least one size, such as 0.03; got none.")
    if isinstance(random_seeds, bool) or not isinstance(random_seeds, int) or random_seeds < 1:
        raise InputError(f"random_seeds must be a whole number of at least 1, got {random_seeds!r}.")
    if how not in get_args(Way):
        raise InputError(f"how must be one of {list(get_args(Way))}, got {how!r}.")


def _measure(regions: _Regions, base: PerplexityReport, fraction: float, random_seeds: int) -> PerplexityReport:
    reports = {BASE: base}
    for which in _REGIONS:
        reports[which] = regions.measure(which, fraction)
    first = regions.bench.settings.seed
    for seed in range(random_seeds):
        reports[f"random {seed}"] = regions.measure("random", fraction, seed=first + seed)
    return PerplexityReport.compare(reports)


def _table(report: PerplexityReport, fraction: float, how: str) -> Table:
    harm = harm_ratio(report, "top", _controls(report))
    rows: list[tuple[Cell, ...]] = []
    for language in report.languages:
        found = {name: scores[language].perplexity for name, scores in report.conditions.items()}
        rows.append((language, *_figures(found), harm[language]))
    means = {name: report.mean(name) for name in report.conditions}
    share = f"{100 * fraction:g}"
    return Table(
        f"regions_{share.replace('.', '_')}",
        f"{share} % of every tensor {_DONE[how]}: perplexity",
        ("language", BASE, *_REGIONS, "random", "harm"),
        (*rows, ("geometric mean", *_figures(means), None)),
        note="top: the largest importance, bottom: the smallest, magnitude: the largest weights. random: geometric mean and range "
        "over seeds. harm: rise of the loss (nats per token) under top over the mean rise under random; infinite "
        "where random regions do no harm.",
        log_bars=(BASE, *_REGIONS, "random"),
        last_is_total=True,
    )


def _figures(found: dict[str, float]) -> tuple[Cell, ...]:
    drawn = [value for name, value in found.items() if name.startswith("random")]
    return (*(found[name] for name in (BASE, *_REGIONS)), Spread(_geometric(drawn), min(drawn), max(drawn)))


def _curves(reports: dict[float, PerplexityReport]) -> Curves:
    every = list(reports.values())
    drawn = [[report.mean(name) for name in _controls(report)] for report in every]
    return Curves(
        "sizes",
        "Damage by the size of the region",
        "share of every tensor, %",
        "perplexity, geometric mean over languages",
        x=tuple(100 * fraction for fraction in reports),
        lines={
            **{which: tuple(report.mean(which) for report in every) for which in _REGIONS},
            "random": tuple(map(_geometric, drawn)),
        },
        x_scale="log",
        y_scale="log",
        note="The band is the range over random seeds; the level is the unedited model.",
        bands={"random": (tuple(map(min, drawn)), tuple(map(max, drawn)))},
        level=every[0].mean(BASE),
    )


def _what(bench: Bench, how: str) -> str:
    languages = bench.core_languages
    return (
        f"Importance is abs(gradient x weight), summed over {', '.join(languages)}. In every tensor of the decoder layers the weights "
        f"of a region are {_DONE[how]}, all {len(bench.languages)} languages measured on texts that were not used for the "
        "importance, and every bit restored."
    )


def _verdict(report: PerplexityReport, fraction: float) -> str:
    harm = harm_ratio(report, "top", _controls(report))
    smallest = min(harm, key=harm.__getitem__)
    worse = sum(
        report.conditions["top"][language].nll
        > max(report.conditions[name][language].nll for name in (*_controls(report), "magnitude"))
        for language in harm
    )
    return (
        f"At {100 * fraction:g} % the top region raises the loss **{statistics.median(harm.values()):.1f} times** as much as random ones "
        f"do (median over languages; smallest {harm[smallest]:.1f}, in {smallest}), and more than every random region and "
        f"the largest weights in {worse} of {len(harm)} languages."
    )


def _controls(report: PerplexityReport) -> list[str]:
    return [name for name in report.conditions if name.startswith("random")]


def _geometric(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))

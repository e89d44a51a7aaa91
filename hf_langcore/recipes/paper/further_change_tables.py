"""The tables of the experiment on changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_langcore.evaluation import PerplexityReport
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.paper.further_statistics import QUANTILES, TensorStatistics, kind_labels, place
from hf_langcore.report.parts import Cell, Matrix, Part, Table

_FIRST_LAYERS = 2


def union_parts(
    statistics: Mapping[str, TensorStatistics], thresholds: Sequence[float], languages: Sequence[str]
) -> list[Part]:
    """The talk's union table, the same of all layers, and what each language has to do with it."""
    parts: list[Part] = [_talk_table(statistics, thresholds)]
    parts += [_union_matrix(statistics, place_, threshold) for place_, threshold in enumerate(thresholds)]
    parts += [
        _language_matrix(statistics, place_, threshold, languages) for place_, threshold in enumerate(thresholds)
    ]
    return parts


def _talk_table(statistics: Mapping[str, TensorStatistics], thresholds: Sequence[float]) -> Table:
    labels = kind_labels(statistics)
    layers = sorted({place(name)[0] for name in statistics})[:_FIRST_LAYERS]
    by_place = {place(name): one for name, one in statistics.items()}
    rows: list[tuple[Cell, ...]] = []
    for kind, label in labels.items():
        found = [by_place.get((layer, kind)) for layer in layers]
        cells = [
            None if one is None else 100 * one.union[at] / one.size for one in found for at in range(len(thresholds))
        ]
        rows.append((label, *cells))
    return Table(
        name="union",
        title="Share of weights that change in at least one language, first layers, in %",
        columns=("tensor", *(f"layer {layer}, > {_percent(one)}" for layer in layers for one in thresholds)),
        rows=tuple(rows),
        note="The talk shows the same table of LLaMA2 after training on 100,000 texts in each of six languages. The shares "
        "depend on the learning rate and on the number of steps: the order of the rows can be compared, not the figures.",
    )


def _union_matrix(statistics: Mapping[str, TensorStatistics], at: int, threshold: float) -> Matrix:
    labels = kind_labels(statistics)
    layers = sorted({place(name)[0] for name in statistics})
    by_place = {place(name): one for name, one in statistics.items()}

    def share(kind: str, layer: int) -> float | None:
        one = by_place.get((layer, kind))
        return None if one is None else one.union[at] / one.size

    return Matrix(
        name=f"union_{_slug(threshold)}",
        title=f"Share of weights that change by more than {_percent(threshold)} in at least one language, by layer",
        rows=tuple(labels.values()),
        columns=tuple(map(str, layers)),
        values=tuple(tuple(share(kind, layer) for layer in layers) for kind in labels),
        unit="share",
    )


def _language_matrix(
    statistics: Mapping[str, TensorStatistics], at: int, threshold: float, languages: Sequence[str]
) -> Matrix:
    labels = kind_labels(statistics)

    def share(kind: str, language: str) -> float:
        found = [one for name, one in statistics.items() if place(name)[1] == kind]
        return sum(one.share[language][at] for one in found) / sum(one.size for one in found)

    return Matrix(
        name=f"languages_{_slug(threshold)}",
        title=f"Share of weights that change by more than {_percent(threshold)}, by language, all layers",
        rows=tuple(labels.values()),
        columns=tuple(languages),
        values=tuple(tuple(share(kind, language) for language in languages) for kind in labels),
        unit="share",
    )


def quantile_table(statistics: Mapping[str, TensorStatistics]) -> Table:
    """Relative changes by kind of tensor."""
    rows: list[tuple[Cell, ...]] = []
    for kind, label in kind_labels(statistics).items():
        found = [
            values for name, one in statistics.items() if place(name)[1] == kind for values in one.quantiles.values()
        ]
        rows.append((label, *(100 * sum(values[at] for values in found) / len(found) for at in range(len(QUANTILES)))))
    return Table(
        name="quantiles",
        title="Relative change of single weights, in %",
        columns=("tensor", *(f"{100 * one:g} % quantile" for one in QUANTILES)),
        rows=tuple(rows),
        note="abs(after - before) / abs(before). Quantiles of each tensor, then means over layers and languages. Small weights "
        "have large relative changes, whatever they do.",
    )


def bits_table(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Share of the weights that are not bit for bit what they were."""
    labels = kind_labels(next(iter(runs.values()))["bits"])
    rows: list[tuple[Cell, ...]] = []
    for kind, label in labels.items():
        found = [counts for run in runs.values() for name, counts in run["bits"].items() if place(name)[1] == kind]
        size = sum(counts[0] for counts in found)
        rows.append((label, *(100 * sum(counts[at] for counts in found) / size for at in (1, 2))))
    return Table(
        name="bits",
        title="Share of weights whose bits change, in %",
        columns=("tensor", "in float32", "rounded to bf16"),
        rows=tuple(rows),
        note="Training is in float32. What a model that is published in bf16 would show stands in the second column: smaller "
        "changes round to nothing there.",
    )


def effect_matrix(runs: Mapping[str, Mapping[str, Any]], before: Mapping[str, float]) -> Matrix:
    """What training in one language does to each."""
    return Matrix(
        name="effect",
        title="What further pretraining in one language (columns) does to each (rows)",
        rows=tuple(before),
        columns=tuple(runs),
        values=tuple(
            tuple(float(run["losses"][code]) - loss for run in runs.values()) for code, loss in before.items()
        ),
        unit="rise of the loss, nats per token",
        is_signed=True,
        note="Below zero: the language gained.",
    )


def jaccard_matrix(masks: Mapping[str, CoreMask], fraction: float) -> Matrix:
    """How much the cores have in common."""
    return Matrix(
        name="overlap",
        title=f"Overlap of cores of {_percent(fraction)} (Jaccard index)",
        rows=tuple(masks),
        columns=tuple(masks),
        values=tuple(tuple(one.jaccard(other) for other in masks.values()) for one in masks.values()),
        unit="share of the union",
        note=f"Two random masks of this size have {fraction / (2 - fraction):.4f} in common.",
    )


def removal_table(reports: Mapping[str, PerplexityReport]) -> Table:
    """Perplexity in all languages with each core set to zero."""
    names = list(reports)
    perplexity: Callable[[str, str], float] = lambda name, code: reports[name].perplexity[code]  # noqa: E731 one line
    rows: list[tuple[Cell, ...]] = [
        (code, *(perplexity(name, code) for name in names)) for code in reports[names[0]].languages
    ]
    rows.append(("mean (geometric)", *(reports[name].mean() for name in names)))
    return Table(
        name="removal",
        title="Perplexity with each core set to zero",
        columns=("language", *names),
        rows=tuple(rows),
        log_bars=tuple(names),
        last_is_total=True,
        note='"least change" is what the slides call Bottom, "most change" their Top; "taylor" is the published code\'s Top.',
    )


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _slug(share: float) -> str:
    return f"{100 * share:g}".replace(".", "_")

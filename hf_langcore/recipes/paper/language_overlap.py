"""How far the cores of languages overlap, and how far one language's core repeats itself on other texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_langcore.errors import CorpusError
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.clustering import (
    Counts,
    cluster,
    intersections,
    jaccard_of,
    random_jaccard,
    script_of,
    shared_by,
    within_and_across,
)
from hf_langcore.recipes.paper.language_regions import LanguageRegions
from hf_langcore.report.parts import Cell, Curves, Matrix, Table


def overlap_parts(regions: LanguageRegions, languages: Sequence[str]) -> tuple[Matrix, Curves, Table]:
    """How much the cores of all languages overlap: matrix with its tree, weights shared by so many, writing systems."""

    def measure() -> dict[str, Any]:
        cores = [regions.core(language) for language in languages]
        return {
            "shared": intersections(cores).tolist(),
            "depths": shared_by(cores).tolist(),
            "random": random_jaccard(cores[0]),
        }

    found = regions.bench.kept("overlap", {"languages": list(languages), "fraction": regions.fraction}, measure)
    shared = np.asarray(found["shared"], dtype=np.int64)
    return (
        _overlap_matrix(shared, languages, found["random"]),
        _depth_curves(np.asarray(found["depths"]), regions.fraction),
        _script_table(shared, languages, regions.bench),
    )


def repeat_table(regions: LanguageRegions) -> Table | None:
    """How far the core of a language repeats itself on other texts of it; None where there are too few texts to tell."""
    bench, names = regions.bench, regions.among
    settings = {"languages": list(names), "fraction": regions.fraction}
    shared = bench.kept("repeats", settings, lambda: _shared_by_halves(bench, names, regions.fraction))
    if shared is None:
        return None
    jaccard = jaccard_of(np.asarray(shared, dtype=np.int64))
    rows: list[tuple[Cell, ...]] = []
    for place, language in enumerate(names):
        crossed = [float(jaccard[2 * place, 2 * other + 1]) for other in range(len(names)) if other != place]
        rows.append((language, float(jaccard[2 * place, 2 * place + 1]), float(np.mean(crossed))))
    return Table(
        "repeats",
        "Does a core repeat itself on other texts of its language?",
        ("language", "overlap of its halves", "mean overlap with halves of others"),
        tuple(rows),
        note="Jaccard index of two cores, each from every other document: the two halves of a language, and its first half with "
        "the second halves of the others. What a language's own halves do not share depends on the texts, and overlaps of "
        "languages have to be read beside it.",
    )


def _shared_by_halves(bench: Bench, languages: Sequence[str], fraction: float) -> Any:
    """What the cores from each language's first and second half share, in this order."""
    settings = bench.settings
    masks = []
    for language, half in itertools.product(languages, (0, 1)):
        try:
            scores = compute_importance(
                bench.model,
                bench.tokenizer,
                {language: list(bench.texts.train[language])[half::2]},
                block_size=settings.block_size,
                max_tokens=settings.core_tokens,
                progress=bench.progress.is_shown,
            )
        except CorpusError:
            return None
        masks.append(CoreMask.from_scores(scores, fraction=fraction))
    return intersections(masks).tolist()


def _overlap_matrix(shared: Counts, languages: Sequence[str], expected: float) -> Matrix:
    jaccard = jaccard_of(shared)
    order, tree = cluster(jaccard)
    names = tuple(languages[index] for index in order)
    pairs = jaccard[np.triu_indices(len(jaccard), 1)]
    return Matrix(
        "overlap",
        "Overlap of the languages' cores",
        rows=names,
        columns=names,
        values=tuple(tuple(round(float(jaccard[one, other]), 4) for other in order) for one in order),
        unit="Jaccard index",
        note=f"Weights in both cores over weights in either: {pairs.min():.3f} to {pairs.max():.3f}, mean {pairs.mean():.3f}; two "
        f"random masks of this size have {expected:.3f}. Languages in the order of an average-linkage clustering.",
        tree=tree,
    )


def _depth_curves(depths: Counts, fraction: float) -> Curves:
    languages = len(depths) - 1
    total = int(depths.sum())
    chance = [
        float(np.exp(_log_choose(languages, k) + k * np.log(fraction) + (languages - k) * np.log1p(-fraction)))
        for k in range(1, languages + 1)
    ]
    return Curves(
        "shared_by",
        "How many languages share a core weight",
        "core in so many languages",
        "share of all weights",
        x=tuple(float(k) for k in range(1, languages + 1)),
        lines={
            "cores": tuple(int(count) / total or None for count in depths[1:]),
            "random masks": tuple(one if one * total >= 1 else None for one in chance),
        },
        y_scale="log",
        note="Random masks: what independent masks of this size give; no figure where that is less than one weight.",
    )


def _script_table(shared: Counts, languages: Sequence[str], bench: Bench) -> Table:
    jaccard = jaccard_of(shared)
    scripts = [script_of(bench.texts.train[language]) for language in languages]
    rows: list[tuple[Cell, ...]] = []
    for script, (within, across) in within_and_across(jaccard, scripts).items():
        members = [language for language, other in zip(languages, scripts, strict=True) if other == script]
        rows.append((script, ", ".join(members), within, across))
    return Table(
        "scripts",
        "Overlap within and across writing systems",
        ("writing system", "languages", "mean overlap within", "mean overlap with others"),
        tuple(rows),
        note="Told from the letters of the texts. Languages of one writing system also share tokens, so more overlap within it "
        "need not mean that the languages are related.",
    )


def _log_choose(count: int, chosen: int) -> float:
    return float(np.log(np.arange(count - chosen + 1, count + 1)).sum() - np.log(np.arange(1, chosen + 1)).sum())

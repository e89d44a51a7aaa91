"""The tables of syntax without the core: conditions, layers, languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_langcore.evaluation import PerplexityReport
from hf_langcore.recipes.lab.syntax import TASKS
from hf_langcore.recipes.lab.syntax_damage import KINDS, MEAN, Damage, Drop
from hf_langcore.report.parts import Cell, Matrix, Spread, Table

_SHORT = {"upos": "POS", "relation": "relations"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One condition and what it does.

    Attributes:
        name: Of the condition.
        region: "base", "core", "random", "bottom" or "monolingual".
        share: Of the weights that are set to zero.
        damage: To syntax.
        perplexity: On the test texts.
    """

    name: str
    region: str
    share: float
    damage: Damage
    perplexity: PerplexityReport

    def drop(self, task: str, kind: str, language: str = MEAN, *, layer: int | None = None) -> Drop:
        """A drop, at the last layer if none is named."""
        return self.damage.drops[task, self.layers[-1] if layer is None else layer, kind, language]

    @property
    def layers(self) -> list[int]:
        """Whose vectors were probed."""
        return sorted({layer for _, layer, _, _ in self.damage.drops})

    @property
    def languages(self) -> list[str]:
        """The languages of the treebanks."""
        return [code for code in dict.fromkeys(code for *_, code in self.damage.drops) if code != MEAN]


def condition_table(outcomes: Sequence[Outcome]) -> Table:
    """Every condition at the last layer: perplexity, drops of both kinds of probe, alignment."""
    layer = outcomes[0].layers[-1]
    heads = [f"{_SHORT[task]}: {kind}" for task in TASKS for kind in KINDS]
    has_alignment = bool(outcomes[0].damage.alignment)
    rows: list[tuple[Cell, ...]] = []
    for one in outcomes:
        drops = [_spread(one.drop(task, kind)) for task in TASKS for kind in KINDS]
        alignment = [Spread(*one.damage.alignment[layer])] if has_alignment else []
        rows.append((one.name, one.share, one.perplexity.mean(), *drops, *alignment))
    base = outcomes[0]
    accuracies = ", ".join(f"{TASKS[task]} {base.drop(task, 'original').before:.3f}" for task in TASKS)
    return Table(
        "conditions",
        f"What probes lose at layer {layer}, mean over {len(base.languages)} languages",
        ("condition", "share of weights", "perplexity", *heads, *(["alignment"] if has_alignment else [])),
        tuple(rows),
        note=f"Share of right labels lost, with 95 % intervals over test sentences, drawn in pairs; before: {accuracies}. The "
        "unedited model loses nothing by construction. Perplexity is the geometric mean over the languages of the texts. Alignment: mean "
        "correlation over pairs of languages, with its interval over sentences.",
        log_bars=("perplexity",),
    )


def layer_table(outcomes: Sequence[Outcome]) -> Table:
    """Drops of the mean over languages in each layer."""
    rows: list[tuple[Cell, ...]] = [
        (one.name, layer, *(_spread(one.drop(task, kind, layer=layer)) for task in TASKS for kind in KINDS))
        for one in outcomes
        if one.region != "base"
        for layer in one.layers
    ]
    heads = [f"{_SHORT[task]}: {kind}" for task in TASKS for kind in KINDS]
    before = "; ".join(
        f"layer {layer}: "
        + ", ".join(f"{_SHORT[task]} {outcomes[0].drop(task, 'original', layer=layer).before:.3f}" for task in TASKS)
        for layer in outcomes[0].layers
    )
    return Table(
        "layers",
        "What probes lose in each layer, mean over languages",
        ("condition", "layer", *heads),
        tuple(rows),
        note=f"As in the table above. Before: {before}.",
    )


def language_drops(outcomes: Sequence[Outcome]) -> Table:
    """Each language without the core, beside random regions and its perplexity."""
    base, core = outcomes[0], next(one for one in outcomes if one.region == "core")
    randoms = [one for one in outcomes if one.region == "random"]
    rows: list[tuple[Cell, ...]] = []
    for code in base.languages:
        cells: list[Cell] = []
        for task in TASKS:
            cells += [core.drop(task, "original", code).before]
            cells += [_spread(core.drop(task, kind, code)) for kind in KINDS]
            drawn = [one.drop(task, "retrained", code).drop for one in randoms]
            cells += [Spread(float(np.mean(drawn)), min(drawn), max(drawn))]
        rows.append((code, *cells, _times(base, core, code)))
    heads = [
        f"{_SHORT[task]}{rest}"
        for task in TASKS
        for rest in (" before", ": original", ": retrained", ": random, retrained")
    ]
    return Table(
        "without_core",
        f"Every language without the core, layer {base.layers[-1]}",
        ("language", *heads, "perplexity times"),
        tuple(rows),
        note="Share of right labels before, and what is lost: with the original probes, with retrained ones, and under random regions "
        "(mean, smallest and largest). The last column is perplexity without the core divided by that before; empty where "
        "there is no test text of the language.",
        log_bars=("perplexity times",),
    )


def drop_matrix(outcomes: Sequence[Outcome], task: str, kind: str) -> Matrix:
    """Condition by language."""
    base = outcomes[0]
    edited = [one for one in outcomes if one.region != "base"]
    return Matrix(
        f"{task}_{kind}",
        f"{TASKS[task].capitalize()}, {kind} probes: what is lost in each language, layer {base.layers[-1]}",
        rows=tuple(one.name for one in edited),
        columns=tuple(base.languages),
        values=tuple(tuple(one.drop(task, kind, code).drop for code in base.languages) for one in edited),
        unit="share of right labels",
        is_signed=True,
    )


def in_words(outcomes: Sequence[Outcome], sources: Sequence[str]) -> list[str]:
    """What the figures say, one paragraph."""
    base, core = outcomes[0], next(one for one in outcomes if one.region == "core")
    randoms = [one for one in outcomes if one.region == "random"]
    said = []
    said.append(
        f"**Without the core** ({100 * core.share:.2g} % of the weights) perplexity goes from {base.perplexity.mean():.4g} to "
        f"{core.perplexity.mean():.4g}; under random regions to {_range([one.perplexity.mean() for one in randoms])}."
    )
    for task in TASKS:
        both = [core.drop(task, kind) for kind in KINDS]
        drawn = [one.drop(task, "retrained").drop for one in randoms]
        own = [
            np.mean([getattr(core.drop(task, "retrained", code), at) for code in sources])
            for at in ("before", "after")
        ]
        others = [code for code in base.languages if code not in sources]
        far = [
            np.mean([getattr(core.drop(task, "retrained", code), at) for code in others]) for at in ("before", "after")
        ]
        said.append(
            f"{TASKS[task].capitalize()}, layer {base.layers[-1]}: of {both[0].before:.3f} right, original probes lose "
            f"{_words(both[0])} and retrained ones {_words(both[1])} (random regions: {_range(drawn)}). Retrained, the languages learnt from go from {own[0]:.3f} to "
            f"{own[1]:.3f}, the others from {far[0]:.3f} to {far[1]:.3f}."
        )
    return [" ".join(said)]


def _words(drop: Drop) -> str:
    return f"{drop.drop:.3f} ({drop.low:.3f} to {drop.high:.3f})"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else f"{values[0]:.4g}"


def _spread(drop: Drop) -> Spread:
    return Spread(drop.drop, drop.low, drop.high)


def _times(base: Outcome, core: Outcome, code: str) -> float | None:
    if code not in base.perplexity.perplexity:
        return None
    return core.perplexity.perplexity[code] / base.perplexity.perplexity[code]

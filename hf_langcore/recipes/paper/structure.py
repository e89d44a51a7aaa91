"""Where the core lies in a model, and what belongs to single languages."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.masks.selection import check_fraction
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.clustering import own_excess
from hf_langcore.recipes.paper.core_parts import (
    Concentration,
    concentration_of,
    counts_over_model,
    dimension_table,
    heat_map,
    layer_matrix,
    role_table,
    tensor_table,
)
from hf_langcore.recipes.paper.language_overlap import overlap_parts, repeat_table
from hf_langcore.recipes.paper.language_regions import (
    LanguageRegions,
    Removal,
    own_rises,
    removal_matrix,
    removal_table,
)
from hf_langcore.report.parts import HeatMaps, Matrix, Section, Table
from hf_langcore.roles import roles_of

_MATRIX = 2
_CELLS, _DETAIL = 64, 48  # more than a screen shows, and than a report has room for


def core_structure(
    bench: Bench,
    *,
    fraction: float | None = None,
    matrices: int = 45,
    cells: int = 36,
    detail: int = 32,
    dimensions: int = 30,
) -> Section:
    """Where the core lies: by role and layer, by tensor, by row and column.

    Args:
        bench: The workbench.
        fraction: Share of each tensor that the core is; None takes the bench's.
        matrices: So many matrices get a heat map, those with the most concentrated cores; all are in the table.
        cells: Rows and columns of cells of a heat map, at most 64.
        detail: Rows and columns of the window at full resolution, at most 48.
        dimensions: So many rows and columns are listed, strongest first.
    """
    _check_sizes(
        matrices=(matrices, None), cells=(cells, _CELLS), detail=(detail, _DETAIL), dimensions=(dimensions, None)
    )
    start = time.perf_counter()
    share = _fraction(bench, fraction)
    scores = bench.scores()
    core_mask = CoreMask.from_scores(scores, fraction=share)
    bench.progress.expect(len(core_mask))
    lines = _concentrations(bench, core_mask)
    shown = sorted(lines.values(), key=lambda one: -one.excess)[:matrices]
    chosen = {one.parameter for one in shown}
    maps = tuple(heat_map(core_mask, name, cells=cells, detail=detail) for name in core_mask if name in chosen)
    return Section(
        "core",
        "Where the core lies",
        _core_text(core_mask, lines, share=share),
        (
            *_shares(core_mask, scores, lines),
            HeatMaps("maps", "The core in the matrices", maps, note=_map_note(len(lines), len(maps))),
            dimension_table(core_mask, limit=dimensions),
        ),
        facts={**bench.facts(), "fraction": share, "core": core_mask.count(), "digest": core_mask.digest()},
        seconds=time.perf_counter() - start,
    )


def languages(
    bench: Bench,
    *,
    fraction: float | None = None,
    removed: Sequence[str] = (),
    compared: Sequence[str] = (),
    random_seeds: int = 3,
) -> Section:
    """Cores of single languages: how they overlap, and whether removing one hurts its language more than others.

    Args:
        bench: The workbench.
        fraction: Share of each tensor that a core is; None takes the bench's.
        removed: Languages whose regions are removed, at least two; empty takes the bench's core languages. A monolingual
            region is what is core in one of them and in none of the others, as published.
        compared: Languages whose cores are compared, at least two; empty takes all.
        random_seeds: Random regions beside each region.
    """
    _check_sizes(random_seeds=(random_seeds, None))
    start = time.perf_counter()
    share = _fraction(bench, fraction)
    own = _some_languages(bench, removed or bench.core_languages, "removed")
    others = _some_languages(bench, compared or bench.languages, "compared")
    bench.progress.expect(2 + 2 * len(own) * (3 + random_seeds))
    regions = LanguageRegions(bench, fraction=share, among=own)
    overlap, repeats = overlap_parts(regions, others), repeat_table(regions)
    alone = [regions.remove("monolingual", language, random_seeds=random_seeds) for language in own]
    whole = [regions.remove("whole", language, random_seeds=random_seeds) for language in own]
    weights = sum(math.prod(weight.shape) for weight in decoder_weights(bench.model).values())
    return Section(
        "languages",
        "Regions of single languages",
        (*_language_text(alone, whole, share=share), *_repeat_text(repeats)),
        (
            removal_table("monolingual", alone, weights),
            removal_matrix("monolingual", alone, bench.languages),
            removal_table("whole", whole, weights),
            removal_matrix("whole", whole, bench.languages),
            *overlap,
            *([repeats] if repeats else []),
        ),
        facts={**bench.facts(), "fraction": share, "removed": own, "compared": others, "random_seeds": random_seeds},
        seconds=time.perf_counter() - start,
    )


def _shares(
    core_mask: CoreMask, scores: ImportanceScores, lines: dict[str, Concentration]
) -> tuple[Table, Matrix, Matrix, Table]:
    """The shares by role, by layer, and by tensor."""
    roles = roles_of(core_mask)
    over_model = counts_over_model(scores, core_mask.count())
    importance = {name: float(scores[name].double().sum()) for name in core_mask}
    return (
        role_table(roles, core_mask, over_model, importance),
        layer_matrix(
            roles,
            over_model,
            name="layers_over_model",
            title="The core by layer and role, chosen over the whole model",
            note="As many weights as the core has, chosen by score over all tensors at once. Empty: no such tensor.",
        ),
        layer_matrix(
            roles,
            {name: core_mask.count(name) for name in core_mask},
            name="layers",
            title="The core by layer and role",
            note="The same share of every tensor, as published: the figures follow the sizes of the tensors.",
        ),
        tensor_table(core_mask, roles, over_model, lines),
    )


def _concentrations(bench: Bench, core_mask: CoreMask) -> dict[str, Concentration]:
    """Of all matrices, one after the other."""
    control = core_mask.random_like(seed=bench.settings.seed)
    found = {}
    for name, shape in core_mask.shapes().items():
        if len(shape) >= _MATRIX:
            found[name] = concentration_of(core_mask, name, control.packed(name))
        bench.progress.step()
    return found


def _core_text(core_mask: CoreMask, lines: dict[str, Concentration], *, share: float) -> tuple[str, ...]:
    first = (
        f"The core is the {100 * share:g} % of the weights of every tensor that matter most, {core_mask.count():,} of "
        f"{core_mask.numel():,}: those with the largest abs(gradient x weight), summed over the languages."
    )
    if not lines:
        return (first,)
    own = sum(max(one.rows, one.columns) for one in lines.values()) / len(lines)
    drawn = sum(max(one.random_rows, one.random_columns) for one in lines.values()) / len(lines)
    strongest = max(lines.values(), key=lambda one: one.excess)
    return (
        first,
        (
            f"It lies in few rows or columns: on average over the matrices the fullest 1 % of the lines of the stronger axis hold "
            f"**{100 * own:.1f} %** of the core, and {100 * drawn:.1f} % of a random mask of the same size. Strongest is "
            f"`{strongest.parameter}` with {100 * max(strongest.rows, strongest.columns):.1f} %."
        ),
        (
            "This says where the scores are large, not that other weights could be done without: what the removal of the core does "
            "is measured elsewhere."
        ),
    )


def _map_note(matrices: int, shown: int) -> str:
    some = (
        f"{shown} of {matrices} matrices, those whose core is most concentrated"
        if shown < matrices
        else "All matrices"
    )
    return (
        f"{some}; all are in the table. Rows are outputs, columns inputs; vectors are left out, stacks of experts lie one below "
        "the other. The window is the densest place at full resolution."
    )


def _language_text(alone: Sequence[Removal], whole: Sequence[Removal], *, share: float) -> tuple[str, ...]:
    names = [one.language for one in alone]
    return (
        (
            f"The core of each language is the {100 * share:g} % of every tensor that its own texts mark as most important. A "
            f"monolingual region is what is core in one of {', '.join(names)} and in none of the others. Regions are set to zero, "
            "all languages measured, and every bit restored."
        ),
        _finding("monolingual region", alone),
        _finding("whole core", whole),
        (
            "Some languages suffer from any damage and some regions hurt every language, so a large rise on the diagonal alone does "
            "not show that a region belongs to its language. The excess takes both means out. A p-value of the order says "
            "that regions and languages belong together, not how: they share texts of one source and tokens."
        ),
    )


def _repeat_text(repeats: Table | None) -> tuple[str, ...]:
    if repeats is None:
        return ("There are too few texts to tell how far the core of a language repeats itself on other texts of it.",)
    own, crossed = ([float(row[column]) for row in repeats.rows] for column in (1, 2))  # type: ignore[arg-type]
    return (
        (
            f"Cores from two halves of one language's texts overlap by {min(own):.2f} to {max(own):.2f} (Jaccard index), those from "
            f"halves of two languages by {min(crossed):.2f} to {max(crossed):.2f} on average: a monolingual region holds, beside "
            "what is the language's, much that other texts of it would not have marked."
        ),
    )


def _finding(what: str, removals: Sequence[Removal]) -> str:
    excess, chance = own_excess(own_rises(removals))
    most = [one.language for one in removals if max(one.rises, key=one.rises.__getitem__) == one.language]
    own = [
        one.language
        for one in removals
        if all(one.rises[one.language] > other.rises[one.language] for other in removals if other is not one)
    ]
    head = (
        f"Without its {what} a language loses more than without any other's in {len(own)} of {len(removals)} cases"
        f"{_listed(own)}; of all languages measured it is the one that loses most in {len(most)}{_listed(most)}."
    )
    if math.isnan(excess):
        return f"{head} Some losses are infinite, so no mean excess is given."
    return f"{head} Mean excess of the own language **{excess:+.3f}** nats per token, p = {chance:.3g} over the orders of the regions."


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _fraction(bench: Bench, fraction: float | None) -> float:
    return check_fraction(bench.settings.fraction if fraction is None else fraction)


def _some_languages(bench: Bench, asked: Sequence[str], name: str) -> list[str]:
    chosen = list(dict.fromkeys(asked))
    missing = [language for language in chosen if language not in bench.languages]
    if missing or len(chosen) < 2:  # noqa: PLR2004 one has nobody to be compared with
        raise InputError(
            f"{name} needs two or more languages that there are texts for ({', '.join(bench.languages)}), got {chosen}."
        )
    return chosen


def _check_sizes(**sizes: tuple[int, int | None]) -> None:
    for name, (value, most) in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
            limit = "" if most is None else f" and at most {most}"
            raise InputError(f"{name} must be a whole number of at least 1{limit}, got {value!r}.")

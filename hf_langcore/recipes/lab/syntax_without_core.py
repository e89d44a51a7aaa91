"""Syntax without the core: the same probes on the model with its core, random, bottom and monolingual regions set to zero."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from torch import nn

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.probing.runs import ProbePlan
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.lab.syntax import source_languages, syntax_facts
from hf_langcore.recipes.lab.syntax_damage import Damage, SyntaxDamage
from hf_langcore.recipes.lab.syntax_tables import (
    Outcome,
    condition_table,
    drop_matrix,
    in_words,
    language_drops,
    layer_table,
)
from hf_langcore.recipes.paper.language_regions import LanguageRegions
from hf_langcore.report.parts import Part, Section

Region = Literal["base", "core", "random", "bottom", "monolingual"]

_FEWEST = 2  # languages that monolingual regions are told apart by
_REGIONS = 3  # monolingual regions where none are named
_WHAT = (
    "A region of the model's weights is set to zero, hidden states are read again, and the weights are put back. "
    "**Original** probes were trained on the unedited model and are applied to the edited one as they are: they fall when vectors "
    "move at all. **Retrained** probes are trained on the edited model: they fall only when what they look for cannot be read "
    "linearly any more. Beside them stand perplexity and the alignment of the languages (the correlation of their distances "
    "between relations). The core comes from {languages}; random regions have as many weights in every tensor; the bottom region "
    "has the lowest scores; a monolingual region is what is core in one of {languages} and in none of the others, and it is much smaller."
)
_NOT_SHOWN = (
    "**Not shown:** the encoder. Importance is the gradient of a causal model's loss, and there is none for masked language models "
    "here, so that an encoder has no core to remove. The embeddings are no part of the regions, so that a probe of layer 0 would lose "
    "nothing by construction. Intervals are over test sentences (and for the alignment over sentences), not over trained models."
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One region that is set to zero.

    Attributes:
        region: Which.
        language: Of a monolingual region.
        seed: Of a random region.
    """

    region: Region
    language: str | None = None
    seed: int | None = None

    def __str__(self) -> str:
        names = {"base": "unedited", "core": "without the core", "bottom": "without the bottom region"}
        if self.region == "random":
            return f"without random region {self.seed}"
        return names.get(self.region, f"without the region of {self.language}")


@dataclass(frozen=True)
class _Study:
    """The conditions of one bench; masks are made when they are needed."""

    bench: Bench
    damage: SyntaxDamage
    fraction: float
    among: tuple[str, ...]

    @cached_property
    def core(self) -> CoreMask:
        return self.bench.core(self.fraction)

    @cached_property
    def regions(self) -> LanguageRegions:
        return LanguageRegions(self.bench, fraction=self.fraction, among=self.among)

    def mask(self, condition: Condition) -> CoreMask | None:
        if condition.region == "base":
            return None
        if condition.region == "bottom":
            return CoreMask.from_scores(self.bench.scores(), fraction=self.fraction, which="bottom")
        if condition.language is not None:
            return self.regions.monolingual(condition.language)
        return self.core if condition.seed is None else self.core.random_like(seed=condition.seed)

    def outcome(self, condition: Condition) -> Outcome:
        """What the condition does to syntax and to perplexity."""

        def edit(model: nn.Module) -> AbstractContextManager[Any]:
            region = self.mask(condition)
            return nullcontext() if region is None else perturb(model, region)

        def share() -> float:
            region = self.mask(condition)
            return 0.0 if region is None else region.count() / self.core.numel()

        own = {**asdict(condition), "fraction": self.fraction}
        own |= {"among": sorted(self.among)} if condition.language else {}
        damage = self.damage
        probed = {
            **own,
            "treebanks": self.bench.companions["treebanks"],
            "sources": damage.sources,
            "layers": damage.layers,
            "max_sentences": damage.max_sentences,
            "draws": damage.draws,
            **damage.plan.settings(),
        }
        kept = self.bench.kept("syntax-damage", probed, lambda: damage.measure(edit).to_dict())
        size = self.bench.kept("region-share", own, share)
        report = self.bench.measure(str(condition), own, edit=edit)
        return Outcome(str(condition), condition.region, size, Damage.from_dict(kept), report)


def syntax_without_core(
    bench: Bench,
    *,
    train_languages: tuple[str, ...] = (),
    monolingual: tuple[str, ...] = (),
    layers: tuple[int, ...] = (),
    fraction: float | None = None,
    random_seeds: int = 3,
    max_sentences: int = 100,
    max_items: int = 3000,
    seeds: int = 3,
    draws: int = 50,
) -> Section:
    """What probes lose when the core, random, bottom and monolingual regions are set to zero, in every language.

    Args:
        bench: Model, texts, treebanks and folder.
        train_languages: What probes learn from; Arabic, English, Russian and Chinese if empty.
        monolingual: Languages whose own regions are removed; the first three core languages if empty.
        layers: Whose vectors are probed; a third, two thirds and the last if empty.
        fraction: Share of each tensor that the core is; None takes the bench's.
        random_seeds: Number of random regions.
        max_sentences: Only so many of the first sentences of each language.
        max_items: Words or relations that a probe learns from, of all its languages together.
        seeds: Times that sentences are held out and items drawn.
        draws: Of sentences, at least 2, for the interval of the alignment; 0 leaves the alignment out.
    """
    if seeds < 1 or random_seeds < 1:
        raise InputError(f"seeds and random_seeds are at least 1, got {seeds!r} and {random_seeds!r}.")
    if draws < 0 or draws == 1:
        raise InputError(f"draws is 0, or at least 2, got {draws!r}.")
    started = time.perf_counter()
    banks, first = bench.require_treebanks(), bench.settings.seed
    sources = source_languages(banks, train_languages)
    plan = ProbePlan(tuple(range(first, first + seeds)), max_items)
    chosen = list(layers) or _spread_layers(bench)
    damage = SyntaxDamage(
        bench.subjects[0], banks, sources=sources, layers=chosen, max_sentences=max_sentences, plan=plan, draws=draws
    )
    study = _Study(bench, damage, fraction or bench.settings.fraction, bench.core_languages)
    conditions = _conditions(bench, monolingual, range(first, first + random_seeds))
    bench.progress.expect(3 * len(conditions))
    outcomes = [study.outcome(condition) for condition in conditions]
    text = (_WHAT.format(languages=", ".join(bench.core_languages)), *in_words(outcomes, sources), _NOT_SHOWN)
    own = {"layers": chosen, "fraction": study.fraction, "random_seeds": random_seeds, "max_items": max_items}
    facts = {**syntax_facts(bench, sources, max_sentences), **own, "seeds": seeds, "draws": draws}
    return Section(
        "syntax_without_core", "Syntax without the core", text, _parts(outcomes), facts, time.perf_counter() - started
    )


def _conditions(bench: Bench, monolingual: Sequence[str], seeds: range) -> list[Condition]:
    alone = tuple(monolingual) or bench.core_languages[:_REGIONS]
    missing = [code for code in alone if code not in bench.core_languages]
    if missing:
        raise InputError(
            f"Monolingual regions are told apart among the core languages, {list(bench.core_languages)}; {missing} are none of them."
        )
    if len(bench.core_languages) < _FEWEST:
        alone = ()
    return [
        Condition("base"),
        Condition("core"),
        *(Condition("random", seed=seed) for seed in seeds),
        Condition("bottom"),
        *(Condition("monolingual", language=code) for code in alone),
    ]


def _spread_layers(bench: Bench) -> list[int]:
    count = int(getattr(bench.model.config, "num_hidden_layers", 1))
    return sorted({max(1, round(count / 3)), max(1, round(2 * count / 3)), count})


def _parts(outcomes: Sequence[Outcome]) -> tuple[Part, ...]:
    matrices = [
        drop_matrix(outcomes, task, kind) for task in ("upos", "relation") for kind in ("original", "retrained")
    ]
    return (condition_table(outcomes), layer_table(outcomes), language_drops(outcomes), *matrices)

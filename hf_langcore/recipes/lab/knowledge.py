"""Syntax or facts: which of the two goes first when growing shares of the core are set to zero?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import nn

from hf_langcore.data.blocks import vocabulary_size
from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.knowledge import KnowledgeReport, KnowledgeSet, evaluate_knowledge, load_knowledge
from hf_langcore.knowledge.evaluate import digest_of
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.masks.selection import check_fraction
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.lab.knowledge_tables import (
    Condition,
    Measured,
    figures_table,
    language_table,
    share_curves,
    share_table,
    verdicts,
)
from hf_langcore.recipes.paper.language_regions import LanguageRegions
from hf_langcore.report.parts import Part, Section

_FRACTIONS = (0.005, 0.01, 0.02, 0.03, 0.05)
_MONOLINGUAL = 0.03

_TEXT = (
    (
        "Importance is abs(gradient x weight), summed over {core}. The most important, the least important and random weights of every "
        "tensor, equally many, are set to zero in growing shares, and each time the model is asked for {facts} cloze facts (the right "
        "completion beside three of the same kind) and {pairs} minimal pairs (a grammatical sentence beside one that differs in one "
        "place) in {languages}. Every bit is put back. The entries were written for this library and have not been checked by native "
        "speakers."
    ),
    (
        "Every figure is also given as the share that is left of what the unedited model has above chance: for accuracy above 25 % and "
        "50 %; for the loss below that of guessing among all {vocabulary:,} tokens; and in nats above zero for the **lift** of facts (what "
        "its own prompt adds to a completion, beside the prompts after which it is wrong) and the **margin** of pairs. Intervals are 95 % of "
        "a paired bootstrap over entries."
    ),
)


@dataclass(frozen=True)
class _Regions:
    """The regions of a bench; scores are made when the first mask is needed."""

    bench: Bench
    sets: Mapping[str, KnowledgeSet]
    batch_size: Any

    @cached_property
    def _scores(self) -> ImportanceScores:
        return self.bench.scores()

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.sets)

    def mask(self, region: str, fraction: float, seed: int | None) -> CoreMask:
        which = "random" if seed is not None else region
        return CoreMask.from_scores(self._scores, fraction=fraction, which=which, seed=seed or 0)

    def measure(self, name: str, settings: Mapping[str, Any], mask: Callable[[], CoreMask] | None = None) -> Measured:
        """Facts, pairs and perplexity while what `mask` gives is set to zero."""

        def edit(model: nn.Module) -> AbstractContextManager[Any]:
            return nullcontext() if mask is None else perturb(model, mask())

        whole = {**settings, "items": self._digest}
        report = KnowledgeReport.from_dict(self.bench.kept("knowledge", whole, lambda: self._ask(edit)))
        return Measured(report, self.bench.measure(name, settings, edit=edit).nll)

    def _ask(self, edit: Callable[[nn.Module], AbstractContextManager[Any]]) -> Any:
        with edit(self.bench.model):
            report = evaluate_knowledge(
                self.bench.model,
                self.bench.tokenizer,
                data=self.sets,
                batch_size=self.batch_size,
                seed=self.bench.settings.seed,
                progress=False,
            )
        return report.to_dict()


def syntax_or_facts(
    bench: Bench,
    *,
    fractions: Sequence[float] = _FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    languages: Sequence[str] | None = None,
    monolingual_fraction: float | None = _MONOLINGUAL,
) -> Section:
    """Set growing shares of the core to zero, and see whether facts, minimal pairs or perplexity go first.

    Args:
        bench: The workbench.
        fractions: Shares of each tensor.
        seeds: Of the random regions.
        languages: Of the facts and pairs; if None those of the built-in ones that the bench has texts for, or all of them.
        monolingual_fraction: Size of the cores that the regions of single languages are parts of; None leaves them out.

    Raises:
        InputError: A fraction is none, there are no seeds, or there are no facts in a language.
    """
    sizes = sorted({check_fraction(fraction) for fraction in fractions})
    if not sizes or not seeds:
        raise InputError(f"At least one fraction and one seed are needed, got {fractions!r} and {seeds!r}.")
    start = time.perf_counter()
    sets = _sets(bench, languages)
    regions = _Regions(bench, sets, bench.settings.batch_size)
    own = _monolingual_languages(bench, sets) if monolingual_fraction is not None else []
    bench.progress.expect(2 * (1 + len(sizes) * (2 + len(seeds)) + len(own)))
    base = regions.measure("base", {})
    found = _conditions(regions, sizes, seeds)
    single = _monolingual(regions, own, monolingual_fraction or 0.0)
    vocabulary = vocabulary_size(bench.model)
    words = {
        "core": ", ".join(bench.core_languages),
        "facts": len(base.report.facts),
        "pairs": len(base.report.pairs),
        "languages": ", ".join(sets),
        "vocabulary": vocabulary,
    }
    parts: list[Part] = [
        figures_table(base, found),
        share_table(base, found, vocabulary),
        *share_curves(base, found, vocabulary),
        language_table(base, found[0], single),
    ]
    return Section(
        "knowledge",
        "Syntax or facts: what goes first without the core?",
        (*(one.format(**words) for one in _TEXT), *verdicts(base, found, vocabulary)),
        tuple(parts),
        facts={
            **bench.facts(),
            "fractions": sizes,
            "seeds": list(seeds),
            "entries_sha256": digest_of(sets),
            "entry_languages": list(sets),
            "monolingual_fraction": monolingual_fraction,
        },
        seconds=time.perf_counter() - start,
    )


def _sets(bench: Bench, languages: Sequence[str] | None) -> dict[str, KnowledgeSet]:
    every = load_knowledge(None, languages)
    if languages is not None:
        return every
    return {code: one for code, one in every.items() if code in bench.languages} or every


def _conditions(regions: _Regions, sizes: Sequence[float], seeds: Sequence[int]) -> list[Condition]:
    found = []
    for fraction in sizes:
        for region, drawn in (("top", [None]), ("bottom", [None]), ("random", list(seeds))):
            runs = [_region(regions, region, fraction, seed) for seed in drawn]
            found.append(Condition({"top": "core"}.get(region, region), fraction, tuple(runs)))
    return found


def _region(regions: _Regions, region: str, fraction: float, seed: int | None) -> Measured:
    settings = {"region": region, "fraction": fraction, "how": "zero", "seed": seed or 0}
    return regions.measure(
        f"{region} {100 * fraction:g} %, zero", settings, partial(regions.mask, region, fraction, seed)
    )


def _monolingual_languages(bench: Bench, sets: Mapping[str, KnowledgeSet]) -> list[str]:
    """Core languages with facts; there is no region of one language among one."""
    core = bench.core_languages
    return [code for code in core if code in sets] if len(core) > 1 else []


def _monolingual(regions: _Regions, languages: Sequence[str], fraction: float) -> dict[str, Measured]:
    bench = regions.bench
    found = {}
    if languages:
        parted = LanguageRegions(bench, fraction=fraction, among=bench.core_languages)
        for language in languages:
            among = sorted(bench.core_languages)
            settings = {"region": "monolingual", "language": language, "among": among, "fraction": fraction}
            found[language] = regions.measure(
                f"without monolingual region {language}",
                {**settings, "random": None},
                partial(parted.monolingual, language),
            )
    return found

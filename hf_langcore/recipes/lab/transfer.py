"""Transfer: what further pretraining on one language, and tokens of its own, do to that language and to the others.

After Zhao et al. 2024 (arXiv:2401.01055), who train LLaMA on 10 thousand to a million Chinese texts: the perplexity of Chinese
falls from 10 to 5, that of English rises from 15 to 199.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask, prepare_scoring, score
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.lab.transfer_tables import Arm, Runs, Shown, parts
from hf_langcore.recipes.lab.transfer_texts import (
    count_rows,
    first_rows,
    general_blocks,
    measured_texts,
    mixed,
    packed,
    shuffled,
)
from hf_langcore.recipes.paper.further import FurtherTraining, fresh_copy, pretrain_further, rate_for
from hf_langcore.recipes.paper.further_texts import block_size_for, trained_language
from hf_langcore.report.parts import Section
from hf_langcore.vocabulary import INITIALISATIONS, LearnedTokens, add_rows, learn_tokens
from hf_langcore.vocabulary.lengths import lengths

_SAMPLES = (0, 100, 400, 1_600)

_TEXT = (
    (
        "A copy of the model is pretrained further on text in **{language}**, each sentence seen once, and measured in all languages on "
        "the way; one row is one sentence. The text has {rows:,} of them ({source}): Zhao et al. (2024) have up to a million texts and "
        "a model two thousand times larger, so compare the directions with theirs and not the level."
    ),
    (
        "In some runs the vocabulary is first extended by tokens that are learned from the same text, on top of how the tokenizer "
        "cuts it now. A model with more tokens predicts fewer and longer pieces, so that its perplexity per token rises even "
        "if it knows the text better: **bits per byte** is what can be compared between vocabularies, and all vocabularies "
        "are measured on the same bytes."
    ),
    (
        "Three ways to keep the other languages stand beside training everything: the core frozen, equally much text of the other "
        "languages mixed in ({ratio} blocks for each block of {language}), and both. Runs on the same number of rows take equally many "
        "sentences, not equally many steps: a longer vocabulary needs fewer, mixed text more."
    ),
)


@dataclass(frozen=True)
class _Plan:
    bench: Bench
    language: str
    counts: tuple[int, ...]
    side_samples: int
    block_size: int
    training: FurtherTraining
    ratio: int

    @property
    def documents(self) -> Sequence[str]:
        return self.bench.texts.train[self.language]

    @cached_property
    def core_mask(self) -> CoreMask:
        return self.bench.core()

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        settings = self.bench.settings
        return measured_texts(self.bench.texts.test, self.bench.tokenizer, max_tokens=settings.test_tokens)

    @cached_property
    def _learned(self) -> dict[int, LearnedTokens]:
        return {}

    def learned(self, num_tokens: int) -> LearnedTokens:
        """The extended tokenizer, which is learned once, and only if something is left to be measured."""
        if num_tokens not in self._learned:
            self._learned[num_tokens] = learn_tokens(self.bench.tokenizer, self.documents, num_tokens=num_tokens)
        return self._learned[num_tokens]

    def points(self, arm: Arm) -> tuple[int, ...]:
        """Numbers of rows after which an arm is measured."""
        if not arm.is_side:
            return self.counts
        return tuple(one for one in self.counts if one <= self.side_samples)

    def tokenizer(self, arm: Arm) -> Any:
        return self.learned(arm.new_tokens).tokenizer if arm.new_tokens else self.bench.tokenizer


def transfer(
    bench: Bench,
    *,
    language: str | None = None,
    reference: str = "en",
    samples: Sequence[int] = _SAMPLES,
    side_samples: int = 400,
    new_tokens: Sequence[int] = (0, 500),
    initialisations: Sequence[str] = tuple(INITIALISATIONS),
    frozen: bool = True,
    general_ratio: int = 1,
    seeds: Sequence[int] = (0, 1, 2),
    block_size: int | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
    bf16: bool = False,
) -> Section:
    """Train further on growing amounts of one language, with the old and with extended vocabularies; measure all languages.

    All amounts are points of one run. The first initialisation is also trained with the core frozen and with other languages
    mixed in, as the old vocabulary is.

    Args:
        bench: The workbench.
        language: To train on; Chinese if None, or the first core language.
        reference: A language with a column of its own, the first other one where there is no text in it.
        samples: Numbers of sentences after which is measured; more than there are means all, and 0 is measured always.
        side_samples: Runs that are there for one comparison (other initialisations than the first; extended vocabularies with a
            frozen core or mixed text) stop at the last of `samples` that is not larger.
        new_tokens: Sizes by which the vocabulary is extended; 0 is the old one.
        initialisations: What new rows begin with: of `INITIALISATIONS`.
        frozen: Also train with the core frozen.
        general_ratio: Blocks of other languages for each block of the language in the runs that mix; 0 leaves these runs out.
        seeds: Of the order of the documents, of what is mixed in, and of drawn rows.
        block_size: Tokens per block; the bench's if None.
        batch_size: Blocks per step.
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.
        bf16: Train in mixed precision; weights stay float32.

    Raises:
        InputError: A number or an initialisation is none, or there is one language only.
        CorpusError: The text gives fewer tokens, or too little to train on.
        UnsupportedModelError: The vocabulary cannot be extended.
    """
    numbers = {
        "samples": samples,
        "side_samples": (side_samples,),
        "new_tokens": new_tokens,
        "general_ratio": (general_ratio,),
    }
    _check(bench, numbers, initialisations, seeds)
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, bf16=bf16)
    code = trained_language(bench, language)
    rows = count_rows(bench.texts.train[code])
    counts = tuple(sorted({0, *(min(one, rows) for one in samples)}))
    plan = _Plan(bench, code, counts, side_samples, block_size_for(bench, block_size), training, general_ratio)
    arms = _arms(new_tokens, initialisations, frozen=frozen, is_mixed=general_ratio > 0)
    grown = [one for one in new_tokens if one]
    bench.progress.expect(len(arms) * len(seeds) + len(grown))
    runs: Runs = {arm: [_kept_run(plan, arm, seed) for seed in seeds] for arm in arms}
    vocabularies = {one: _kept_vocabulary(plan, one) for one in grown}
    others = [one for one in bench.languages if one != code]
    shown = Shown(code, reference if reference in others else others[0], counts, rows)
    source = "generated text" if bench.texts.is_generated else "real text"
    words = {"language": code, "rows": rows, "source": source, "ratio": general_ratio}
    return Section(
        name="transfer",
        title=f"Further pretraining in {code}, and tokens of its own",
        text=tuple(one.format(**words) for one in _TEXT),
        parts=parts(runs, vocabularies, shown),
        facts={
            **bench.facts(),
            **words,
            "samples": list(counts),
            "side_samples": side_samples,
            "new_tokens": list(new_tokens),
            "initialisations": list(initialisations),
            "seeds": list(seeds),
            "training": {**training.to_dict(), "block_size": plan.block_size},
        },
    )


def _check(
    bench: Bench, numbers: Mapping[str, Sequence[int]], initialisations: Sequence[str], seeds: Sequence[int]
) -> None:
    for name, values in numbers.items():
        if not values or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in values):
            raise InputError(f"{name} must be whole numbers from 0, got {values!r}.")
    unknown = [one for one in initialisations if one not in INITIALISATIONS]
    if unknown or not initialisations:
        raise InputError(f"initialisations must be some of {list(INITIALISATIONS)}, got {list(initialisations)}.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be different numbers, at least one, got {list(seeds)}.")
    if len(bench.languages) == 1:
        raise InputError("What is lost elsewhere needs text in at least two languages; there is one.")


def _arms(new_tokens: Sequence[int], initialisations: Sequence[str], *, frozen: bool, is_mixed: bool) -> list[Arm]:
    found = []
    for size in dict.fromkeys(new_tokens):
        for number, one in enumerate(initialisations if size else ("",)):
            whole = number == 0
            found += [
                Arm(
                    size, one, is_frozen=freezes, is_mixed=mixes, is_side=bool(number or (size and (freezes or mixes)))
                )
                for mixes in ((False, True) if is_mixed and whole else (False,))
                for freezes in ((False, True) if frozen and whole else (False,))
            ]
    return found


def _kept_run(plan: _Plan, arm: Arm, seed: int) -> dict[str, Any]:
    settings = {
        "arm": arm.to_dict(),
        "core_mask": plan.core_mask.digest() if arm.is_frozen else None,
        "seed": seed,
        "language": plan.language,
        "counts": list(plan.points(arm)),
        "block_size": plan.block_size,
        "general_ratio": plan.ratio if arm.is_mixed else 0,
        "training": plan.training.to_dict(),
    }
    found: dict[str, Any] = plan.bench.kept("transfer", settings, lambda: _run(plan, arm, seed))
    return found


def _kept_vocabulary(plan: _Plan, num_tokens: int) -> dict[str, Any]:
    """How long each language's text is in tokens, before and after, and some of the new tokens."""

    def make() -> dict[str, Any]:
        learned = plan.learned(num_tokens)
        old, new = plan.bench.tokenizer, learned.tokenizer
        texts = plan.texts
        said = [new.decode([learned.first_id + place]) for place in range(num_tokens)]
        return {
            "before": {code: lengths(old, each).tokens_per_byte for code, each in texts.items()},
            "after": {code: lengths(new, each, old=old).tokens_per_byte for code, each in texts.items()},
            "tokens": [one.strip() for one in said if "\ufffd" not in one],
        }

    settings = {"language": plan.language, "num_tokens": num_tokens}
    found: dict[str, Any] = plan.bench.kept("transfer-vocabulary", settings, make)
    return found


def _run(plan: _Plan, arm: Arm, seed: int) -> dict[str, Any]:
    """Extend, train, measure, and count the bits of the core."""
    bench, tokenizer = plan.bench, plan.tokenizer(arm)
    model = fresh_copy(bench)
    if arm.new_tokens:
        learned = plan.learned(arm.new_tokens)
        add_rows(model, learned, initialisation=arm.initialisation, seed=seed)  # type: ignore[arg-type]
    task = prepare_scoring(model, tokenizer, plan.texts, block_size=bench.settings.block_size)
    blocks, points = _blocks(plan, arm, tokenizer, seed)
    begun = copy_weights(model, plan.core_mask)
    looks = pretrain_further(
        model,
        blocks,
        replace(plan.training, seed=seed),
        look=lambda trained: _scores(bench, trained, task),
        look_at=points.values(),
        core_mask=plan.core_mask if arm.is_frozen else None,
    )
    return {
        "scores": {str(rows): looks[point] for rows, point in points.items()},
        "tokens": blocks.numel(),
        "core": plan.core_mask.count(),
        "core_changed": count_changed(model, begun, plan.core_mask).core,
    }


def _blocks(plan: _Plan, arm: Arm, tokenizer: Any, seed: int) -> tuple[Any, dict[int, int]]:
    """The blocks in their order, and number of rows -> number of blocks that they fill, in whole batches."""
    language, size = plan.language, plan.block_size
    documents, counts = shuffled(plan.documents, seed), plan.points(arm)
    own = packed(language, documents, tokenizer, block_size=size)
    filled = {0: 0}
    for rows in counts[1:]:
        filled[rows] = plan.training.up(len(packed(language, first_rows(documents, rows), tokenizer, block_size=size)))
    most = min(filled[counts[-1]], plan.training.down(len(own)))
    points = {rows: min(count, most) for rows, count in filled.items()}
    if not arm.is_mixed:
        return own[:most], points
    rest = {code: texts for code, texts in plan.bench.texts.train.items() if code != language}
    general = general_blocks(rest, tokenizer, most * plan.ratio, block_size=size, seed=seed)
    return mixed(own[:most], general, plan.ratio), {rows: count * (1 + plan.ratio) for rows, count in points.items()}


def _scores(bench: Bench, model: nn.Module, task: ScoringTask) -> dict[str, Mapping[str, Any]]:
    """Language -> score, as JSON values."""
    report = score(model, task, batch_size=bench.settings.batch_size, on_nonfinite="inf", progress=False)
    return {
        code: one.to_dict() for code, one in chain.from_iterable(each.items() for each in report.conditions.values())
    }

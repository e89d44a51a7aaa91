"""Code-switching: without the core, and while the model is trained further on one language."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.masks.selection import check_fraction
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.lab.switching_tables import (
    confusion_matrix,
    examples,
    outcome_table,
    rate_table,
    training_curves,
    verdicts,
)
from hf_langcore.recipes.paper.further import FurtherTraining, fresh_copy, in_order, pretrain_further, rate_for
from hf_langcore.recipes.paper.further_texts import TrainingText, block_size_for, own_blocks, trained_language
from hf_langcore.report.parts import Section
from hf_langcore.switching import Criteria, SwitchingReport, code_switching_rate
from hf_langcore.switching.prompts import first_words

_SHARES = (4, 2, 1)  # of the text, after which the trained model is asked

_TEXT = (
    (
        "The model goes on from the first {words} words of {prompts} held-out texts in each of {languages} languages, sampled at "
        "temperature {temperature:g}, {tokens} tokens each. A text leaves its language where a window of it is in another script, or "
        "where the language identifier finds another of these languages {ratio:g} times likelier. Texts with too few letters, or whose "
        "letters make no words, are counted apart; shares are of the others, with 95 % Wilson intervals."
    ),
    (
        "The same prompts and random numbers are used without the core ({share:g} % of every tensor set to zero), without as many random "
        "weights, and while a copy of the model is trained further on **{language}** alone ({samples:,} blocks of {block_size} tokens, "
        "{source}, each seen once)."
    ),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    prompts: Mapping[str, Sequence[str]]
    options: Mapping[str, Any]
    criteria: Criteria
    language: str
    text: TrainingText
    training: FurtherTraining
    counts: tuple[int, ...]


def switching(
    bench: Bench,
    *,
    languages: Sequence[str] | None = None,
    prompts: int = 8,
    words: int = 8,
    tokens: int = 40,
    temperature: float = 0.8,
    fraction: float | None = None,
    random_seeds: int = 2,
    language: str | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
) -> Section:
    """Count generations that leave the prompt's language: as it is, without the core, and while it is trained further.

    Args:
        bench: The workbench.
        languages: Of the prompts; all if None.
        prompts: Prompts in each language.
        words: First words of a held-out text that are a prompt.
        tokens: That the model writes.
        temperature: Of the sampling.
        fraction: Size of the core; the bench's if None.
        random_seeds: Number of random regions of that size.
        language: To train on; Chinese if None, or the first core language.
        batch_size: Blocks per training step.
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.

    Raises:
        InputError: A number is out of range, or there are no texts in a language.
        CorpusError: The text does not fill one block.
    """
    size = check_fraction(bench.settings.fraction if fraction is None else fraction)
    if isinstance(random_seeds, bool) or not isinstance(random_seeds, int) or random_seeds < 1:
        raise InputError(f"random_seeds must be a whole number of at least 1, got {random_seeds!r}.")
    start = time.perf_counter()
    plan = _planned(bench, languages, (prompts, words, tokens, temperature), language, batch_size, learning_rate)
    bench.progress.expect(3 + random_seeds)
    states = {"unedited": _asked(bench, plan, {})}
    states["core removed"] = _asked(bench, plan, {"region": "top", "fraction": size})
    drawn = [
        _asked(bench, plan, {"region": "random", "fraction": size, "seed": bench.settings.seed + number})
        for number in range(random_seeds)
    ]
    states["random removed"] = _together(drawn)
    trained = _trained(bench, plan)
    states[f"trained on {plan.language}"] = trained[plan.counts[-1]]
    said = {
        "words": words,
        "prompts": prompts,
        "languages": len(plan.prompts),
        "temperature": temperature,
        "tokens": tokens,
        "ratio": plan.criteria.ratio,
        "share": 100 * size,
        "language": plan.language,
        "samples": plan.counts[-1],
        "block_size": plan.text.blocks.shape[1],
        "source": plan.text.source,
    }
    return Section(
        "switching",
        "Code-switching: without the core, and while trained on one language",
        (*(one.format(**said) for one in _TEXT), *verdicts(states, plan.language)),
        (
            rate_table(states),
            outcome_table(states),
            training_curves({0: states["unedited"], **trained}, plan.language),
            *(confusion_matrix(name, report) for name, report in states.items() if name != "random removed"),
            *examples(states),
        ),
        facts={**bench.facts(), **said, "random_seeds": random_seeds, "training": plan.training.to_dict()},
        seconds=time.perf_counter() - start,
    )


def _planned(
    bench: Bench,
    languages: Sequence[str] | None,
    sizes: tuple[int, int, int, float],
    language: str | None,
    batch_size: int,
    learning_rate: float | None,
) -> _Plan:
    prompts, words, tokens, temperature = sizes
    missing = [code for code in languages or () if code not in bench.texts.test]
    if missing or (languages is not None and not languages):
        raise InputError(f"There are no texts for the prompts in {missing}; there are some in {bench.languages}.")
    chosen = {code: bench.texts.test[code] for code in languages or bench.languages}
    trained = trained_language(bench, language)
    text = own_blocks(bench, trained, block_size=block_size_for(bench, None))
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, seed=bench.settings.seed)
    counts = tuple(sorted({training.down(len(text) // share) for share in _SHARES} - {0}))
    if not counts:
        raise InputError(
            f"The text in {trained!r} has {len(text)} blocks, less than one batch of {batch_size}. Lower it."
        )
    return _Plan(
        first_words(chosen, words=words, prompts=prompts),
        {"max_new_tokens": tokens, "temperature": temperature, "seed": bench.settings.seed},
        Criteria(among=tuple(bench.languages)),
        trained,
        text,
        training,
        counts,
    )


def _depends_on(plan: _Plan) -> dict[str, Any]:
    criteria = {"ratio": plan.criteria.ratio, "share": plan.criteria.script_share, "width": plan.criteria.width}
    return {"prompts": {code: list(listed) for code, listed in plan.prompts.items()}, **plan.options, **criteria}


def _asked(bench: Bench, plan: _Plan, region: Mapping[str, Any]) -> SwitchingReport:
    """The model, with a region set to zero if one is named."""
    settings = {**_depends_on(plan), **region}
    return SwitchingReport.from_dict(
        bench.kept("switching", settings, lambda: _look(bench, plan, _edit(bench, region))(bench.model))
    )


def _edit(bench: Bench, region: Mapping[str, Any]) -> Callable[[nn.Module], AbstractContextManager[Any]]:
    if not region:
        return lambda _: nullcontext()
    core = bench.core(region["fraction"])
    mask = core if region["region"] == "top" else core.random_like(seed=region["seed"])
    return lambda model: perturb(model, mask)


def _look(
    bench: Bench, plan: _Plan, edit: Callable[[nn.Module], AbstractContextManager[Any]] | None = None
) -> Callable[[nn.Module], Any]:
    def look(model: nn.Module) -> Any:
        with edit(model) if edit is not None else nullcontext():
            return code_switching_rate(
                model, bench.tokenizer, plan.prompts, criteria=plan.criteria, progress=False, **plan.options
            ).to_dict()

    return look


def _trained(bench: Bench, plan: _Plan) -> dict[int, SwitchingReport]:
    """Number of samples -> what the trained copy writes."""
    settings = {
        **_depends_on(plan),
        "language": plan.language,
        "counts": list(plan.counts),
        "blocks": list(plan.text.blocks.shape),
        "training": plan.training.to_dict(),
    }

    def make() -> Any:
        order = in_order(len(plan.text), seed=plan.training.seed)[: plan.counts[-1]]
        looks = pretrain_further(
            fresh_copy(bench), plan.text.blocks[order], plan.training, look=_look(bench, plan), look_at=plan.counts
        )
        return {str(samples): report for samples, report in looks.items()}

    found = bench.kept("switching-trained", settings, make)
    return {int(samples): SwitchingReport.from_dict(report) for samples, report in found.items()}


def _together(reports: Sequence[SwitchingReport]) -> SwitchingReport:
    """The generations of several random regions as one report."""
    return SwitchingReport(tuple(one for report in reports for one in report.generations), reports[0].settings)

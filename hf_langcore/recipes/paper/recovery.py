"""A destroyed core, trained again: does a language heal around it, and do the others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_langcore.editing import perturb
from hf_langcore.editing.edits import How
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    losses_of,
    pretrain_further,
    rate_for,
)
from hf_langcore.recipes.paper.further_texts import (
    TrainingText,
    block_size_for,
    can_generate,
    generated_blocks,
    held_out_generated,
    own_blocks,
    trained_language,
)
from hf_langcore.recipes.paper.recovery_tables import Recovered, arm_table, bits_table, curves, sample_table
from hf_langcore.report.parts import Part, Section

ARMS = {
    "frozen": "core broken and frozen",
    "free": "core broken and free",
    "random": "random region broken and frozen",
    "unbroken": "nothing broken",
}
"""What is compared, in a word and in several; the last two are controls."""

_FROZEN = ("frozen", "random")
_SAMPLES = (0, 2_000, 5_000, 10_000, 20_000, 50_000)
_SHARES_OF_OWN = (8, 4, 2)

_TEXT = (
    (
        "A region of a copy of the model is broken, and the copy is pretrained further in **{language}** alone, each sample seen "
        "once. **Frozen** means that the broken values stay broken, bit for bit, while everything else is trained; **free** that "
        "all is trained. If the language heals with the core frozen, the rest of the model has taken over what the core did. "
        "Whether the other languages heal with it is another question: they are measured beside it and not trained on."
    ),
    (
        "Two controls: a random region of the same size per tensor, broken and frozen, shows what breaking any weights costs; the "
        "unbroken model, trained on the same samples, shows what the training itself does to the other languages. A rise that "
        "it has, too, is forgetting and not the core's."
    ),
)


@dataclass(frozen=True, slots=True)
class _Job:
    """One text, and when the model is measured."""

    text: TrainingText
    counts: tuple[int, ...]
    tasks: Mapping[str, ScoringTask]


@dataclass(frozen=True, slots=True)
class _Plan:
    language: str
    core_mask: CoreMask
    how: How
    block_size: int
    training: FurtherTraining
    arms: tuple[str, ...]


def recovery(
    bench: Bench,
    *,
    language: str | None = None,
    samples: Sequence[int] = _SAMPLES,
    fraction: float = 0.01,
    how: How = "reinit",
    arms: Sequence[str] = tuple(ARMS),
    generated_arms: Sequence[str] = (),
    block_size: int | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
    bf16: bool = False,
) -> Section:
    """Break the core, train one language, frozen and free, and measure all languages on the way.

    Numbers of samples that the bench's text has are trained on it; if some are larger, a second part trains all of them on
    generated text. No sample comes twice. Finished runs are kept.

    Args:
        bench: The workbench.
        language: To train on; Chinese if None, or the first core language.
        samples: Numbers of blocks after which is measured, rounded up to whole batches; 0 is measured always. On the
            bench's text also an eighth, a quarter, a half and all of it.
        fraction: Size of the core; 1 % in the talk.
        how: How it is broken: "reinit" as in the talk, "zero", "noise", "shuffle" or "mean".
        arms: Which of `ARMS` to run.
        generated_arms: The same on generated text, of which there are far more samples; as `arms` if empty.
        block_size: Tokens per block; the bench's if None (the published code has 512).
        batch_size: Blocks per step (the published code has 32 over all devices).
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.
        bf16: Train in mixed precision; weights stay float32.

    Raises:
        InputError: An arm, or a number of samples, is none.
        CorpusError: The text does not fill one block.
    """
    _check(samples, arms)
    _check(samples, generated_arms or arms)
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, bf16=bf16, seed=bench.settings.seed)
    code, size = trained_language(bench, language), block_size_for(bench, block_size)
    plan = _Plan(code, bench.core(fraction), how, size, training, tuple(arms))
    jobs = _jobs(bench, plan, samples)
    chosen = [plan.arms, tuple(generated_arms or arms)][: len(jobs)]
    bench.progress.expect(sum(len(each) + 1 for each in chosen))
    parts: list[Part] = []
    for job, its_arms in zip(jobs, chosen, strict=True):
        found = {ARMS[arm]: Recovered.read(_kept_run(bench, plan, job, arm)) for arm in its_arms}
        parts += _parts(bench, plan, job, found)
    text = tuple(one.format(language=code) for one in _TEXT)
    return Section(
        name="recovery",
        title=f"A destroyed core of {100 * fraction:g} %, trained again in {code}",
        text=(*text, _said_of_texts(jobs, plan, samples)),
        parts=tuple(parts),
        facts={
            **bench.facts(),
            "language": code,
            "fraction": fraction,
            "core_mask": plan.core_mask.digest(),
            "how": how,
            "training": {**training.to_dict(), "block_size": size},
            "samples": {job.text.source: list(job.counts) for job in jobs},
        },
    )


def _check(samples: Sequence[int], arms: Sequence[str]) -> None:
    if not samples or any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in samples):
        raise InputError(f"samples must be whole numbers from 0, such as {_SAMPLES}, got {samples!r}.")
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or not arms:
        raise InputError(f"arms must be some of {list(ARMS)}, got {list(arms)}.")


def _jobs(bench: Bench, plan: _Plan, samples: Sequence[int]) -> list[_Job]:
    """The bench's text with the numbers that it has, and generated text where larger ones are asked for."""
    own = own_blocks(bench, plan.language, block_size=plan.block_size)
    most, wanted = plan.training.down(len(own)), {plan.training.up(one) for one in samples}
    fitting = {one for one in wanted if one <= most}
    if len(fitting) < len(wanted):
        fitting |= {plan.training.down(most // share) for share in (*_SHARES_OF_OWN, 1)}
    tasks = {"test": bench.task}
    jobs = [_Job(own, tuple(sorted(fitting | {0})), tasks)]
    if max(wanted) > most and can_generate(plan.language):
        text = generated_blocks(bench, plan.language, max(wanted), block_size=plan.block_size)
        tasks = {**tasks, "generated": held_out_generated(bench, plan.language)}
        jobs.append(_Job(text, tuple(sorted(wanted | {0})), tasks))
    return jobs


def _kept_run(bench: Bench, plan: _Plan, job: _Job, arm: str) -> dict[str, Any]:
    settings = {
        "arm": arm,
        "language": plan.language,
        "region": plan.core_mask.digest(),
        "how": plan.how,
        "text": job.text.source,
        "counts": list(job.counts),
        "block_size": plan.block_size,
        "training": plan.training.to_dict(),
    }
    found: dict[str, Any] = bench.kept("recovery", settings, lambda: _run(bench, plan, job, arm))
    return found


def _run(bench: Bench, plan: _Plan, job: _Job, arm: str) -> dict[str, Any]:
    """Break, train, measure, and count the bits of what was broken."""
    seed = plan.training.seed
    region = plan.core_mask.random_like(seed=seed) if arm == "random" else plan.core_mask
    model = fresh_copy(bench)
    if arm != "unbroken":
        perturb(model, region, how=plan.how, seed=seed).keep()
    begun = copy_weights(model, region)
    order = in_order(len(job.text), seed=seed)[: job.counts[-1]]
    looks = pretrain_further(
        model,
        job.text.blocks[order],
        plan.training,
        look=lambda trained: losses_of(trained, job.tasks, batch_size=bench.settings.batch_size),
        look_at=job.counts,
        core_mask=region if arm in _FROZEN else None,
    )
    changed = count_changed(model, begun, region)
    return {
        "losses": {str(samples): losses for samples, losses in looks.items()},
        "region": region.count(),
        "changed": {"region": changed.core, "elsewhere": changed.complement},
    }


def _parts(bench: Bench, plan: _Plan, job: _Job, found: Mapping[str, Recovered]) -> list[Part]:
    source = job.text.source
    base = bench.kept(
        "recovery-base",
        {"language": plan.language, "texts": list(job.tasks)},
        lambda: losses_of(fresh_copy(bench), job.tasks, batch_size=bench.settings.batch_size),
    )
    return [
        *curves(found, base, job.counts, language=plan.language, source=source),
        sample_table(found, base, job.counts, language=plan.language, source=source),
        *(arm_table(arm, one, base, job.counts, source=source) for arm, one in found.items()),
        bits_table(found, source=source),
    ]


def _said_of_texts(jobs: Sequence[_Job], plan: _Plan, samples: Sequence[int]) -> str:
    own = jobs[0].text
    said = f"The {own.source} in {plan.language} fills {len(own):,} blocks of {plan.block_size} tokens"
    if jobs[0].counts[-1] >= max(samples):
        return f"{said}: all of this was trained on it."
    if len(jobs) == 1:
        return f"{said}; the generator does not speak {plan.language}, so that larger numbers of samples are left out."
    return (
        f"{said}. The larger numbers of samples are trained on **generated text**, in parts of their own, with "
        "simple sentences of a small vocabulary: read them for the course of the curves, not for the level."
    )

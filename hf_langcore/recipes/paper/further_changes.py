"""What changes when the model is pretrained further in one language: the talk's first experiment, and its control."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from hf_langcore.architecture import decoder_weights
from hf_langcore.editing import perturb
from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.importance import compute_importance, importance_from_checkpoints
from hf_langcore.masks import CoreMask, ImportanceScores, bits_of
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    losses_of,
    pretrain_further,
    rate_for,
)
from hf_langcore.recipes.paper.further_change_tables import (
    bits_table,
    effect_matrix,
    jaccard_matrix,
    quantile_table,
    removal_table,
    union_parts,
)
from hf_langcore.recipes.paper.further_statistics import tensor_statistics
from hf_langcore.recipes.paper.further_texts import TrainingText, block_size_for, enough_blocks, own_blocks
from hf_langcore.report.parts import Section, Table

_TEXT = (
    (
        "A copy of the model is pretrained further in each core language by itself, on equally many samples, each seen once. The "
        "change of a weight is abs(after - before) / abs(before), as in the talk and in the published code."
    ),
    (
        "**What the core by least change is.** Adam moves a weight by about the learning rate at each step, however small its "
        "gradient is, so that a small *relative* change may say no more than that the weight is large. That is what the mask by "
        "magnitude is for, below: how much of the core by least change it has in common with it, and whether its removal does "
        "as much."
    ),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that one language's run depends on."""

    languages: tuple[str, ...]
    samples: int
    block_size: int
    training: FurtherTraining

    def settings(self, language: str) -> dict[str, Any]:
        own = {"language": language, "samples": self.samples, "block_size": self.block_size}
        return {**own, "training": self.training.to_dict()}


def changes(
    bench: Bench,
    *,
    languages: Sequence[str] | None = None,
    samples: int | None = None,
    block_size: int | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
    bf16: bool = False,
    thresholds: Sequence[float] = (0.01, 0.03, 0.05),
    fraction: float | None = None,
) -> Section:
    """Pretrain further in each language; what changes, and the core of what changes least.

    Changes are kept in the bench's folder, four bytes a weight and language; a killed run repeats one language.

    Args:
        bench: The workbench.
        languages: To train on, each by itself; those of the core if None.
        samples: Blocks per language; if None as many as the shortest text fills. Where a text has fewer, all blocks of
            that language are generated ones, and the section says so.
        block_size: Tokens per block; the bench's if None (the published code has 512).
        batch_size: Blocks per step (the published code has 32 over all devices).
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.
        bf16: Train in mixed precision; weights stay float32.
        thresholds: Relative changes that are counted.
        fraction: Size of the cores that are compared; the bench's if None.

    Raises:
        CorpusError: A text has too few blocks, and the generator does not speak the language.
    """
    plan, texts = _planned(bench, languages, samples, block_size, batch_size, learning_rate, bf16=bf16)
    bench.progress.expect(len(plan.languages) + len(_CONDITIONS) + 1)
    runs = {language: _kept_run(bench, plan, language, texts[language]) for language in plan.languages}
    scores = {language: _scores(bench, plan, language, texts[language]) for language in plan.languages}
    statistics = {
        name: tensor_statistics({language: one[name] for language, one in scores.items()}, thresholds)
        for name in next(iter(scores.values()))
    }
    masks = _masks(bench, scores, fraction or bench.settings.fraction)
    reports = {"base": bench.measure("base")}
    for name, mask in masks.items():
        reports[name] = bench.measure(name, {"region": mask.digest()}, edit=partial(_removed, core_mask=mask))
    sources = {language: texts[language].source for language in plan.languages}
    return Section(
        name="changes",
        title="Further pretraining in each language: what changes",
        text=_TEXT,
        parts=(
            _training_table(runs, reports["base"].nll, sources, plan),
            *union_parts(statistics, thresholds, plan.languages),
            quantile_table(statistics),
            bits_table(runs),
            effect_matrix(runs, reports["base"].nll),
            jaccard_matrix(masks, fraction or bench.settings.fraction),
            removal_table(reports),
        ),
        facts={
            **bench.facts(),
            "samples": plan.samples,
            "tokens_per_language": plan.samples * plan.block_size,
            "training": {**plan.training.to_dict(), "block_size": plan.block_size},
            "training_text": sources,
            "fraction": fraction or bench.settings.fraction,
        },
    )


def _planned(
    bench: Bench,
    languages: Sequence[str] | None,
    samples: int | None,
    block_size: int | None,
    batch_size: int,
    learning_rate: float | None,
    *,
    bf16: bool,
) -> tuple[_Plan, dict[str, TrainingText]]:
    chosen = tuple(bench.core_languages if languages is None else languages)
    missing = [language for language in chosen if language not in bench.texts.train]
    if missing or not chosen:
        raise InputError(f"languages={list(chosen)}: there are texts for {bench.languages}.")
    size = block_size_for(bench, block_size)
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, bf16=bf16, seed=bench.settings.seed)
    count = samples or min(len(own_blocks(bench, language, block_size=size)) for language in chosen)
    count = training.down(count)
    if count < batch_size:
        raise InputError(f"{samples or 'The shortest text'} samples do not fill one batch of {batch_size}. Lower it.")
    texts = {language: enough_blocks(bench, language, count, block_size=size) for language in chosen}
    return _Plan(chosen, count, size, training), texts


def _kept_run(bench: Bench, plan: _Plan, language: str, text: TrainingText) -> dict[str, Any]:
    settings = {**plan.settings(language), "text": text.source}
    found: dict[str, Any] = bench.kept("changes", settings, lambda: _run(bench, plan, language, text))
    return found


def _run(bench: Bench, plan: _Plan, language: str, text: TrainingText) -> dict[str, Any]:
    """Train in one language; write what changed, and return what is known of the trained model."""
    model = fresh_copy(bench)
    samples = text.blocks[in_order(len(text), seed=plan.training.seed)]
    pretrain_further(model, samples, plan.training)
    scores = importance_from_checkpoints(bench.model, {language: model}, progress=False)
    scores.save_pretrained(_folder(bench, plan, language), overwrite=True)
    losses = losses_of(model, {"test": bench.task}, batch_size=bench.settings.batch_size)["test"]
    return {"losses": losses, "bits": _changed_bits(bench.model, model)}


def _changed_bits(before: nn.Module, after: nn.Module) -> dict[str, list[int]]:
    """Tensor -> its size, and its weights whose bits changed: in float32, and when both are rounded to bf16."""
    now = decoder_weights(after)
    counts = {}
    for name, weight in decoder_weights(before).items():
        old, new = weight.parameter.detach().cpu().float(), now[name].parameter.detach().cpu().float()
        exact = int((bits_of(old) != bits_of(new)).sum())
        rounded = int((bits_of(old.bfloat16()) != bits_of(new.bfloat16())).sum())
        counts[name] = [old.numel(), exact, rounded]
    return counts


def _folder(bench: Bench, plan: _Plan, language: str) -> Path:
    """Where the changes of one run lie; as a kept result's, its name has all that they depend on."""
    identity = [bench.identity, plan.settings(language)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return bench.output / "kept" / f"changes-{language}-{digest[:24]}"


def _scores(bench: Bench, plan: _Plan, language: str, text: TrainingText) -> ImportanceScores:
    """The changes of a finished run; where somebody has removed or damaged them the run is done again."""
    folder = _folder(bench, plan, language)
    try:
        return ImportanceScores.from_pretrained(folder)
    except (InputError, CoreMaskFormatError):
        _run(bench, plan, language, text)
        return ImportanceScores.from_pretrained(folder)


_CONDITIONS = ("least change", "most change", "taylor", "magnitude", "random")


def _masks(bench: Bench, scores: Mapping[str, ImportanceScores], fraction: float) -> dict[str, CoreMask]:
    """The cores that are compared, in the order of `_CONDITIONS`."""
    every = iter(scores.values())
    total = next(every)
    for one in every:
        total += one
    magnitude = compute_importance(bench.model, method="magnitude", progress=False)
    taylor = bench.core(fraction)
    made = (
        CoreMask.from_scores(total, fraction=fraction, which="bottom"),
        CoreMask.from_scores(total, fraction=fraction, which="top"),
        taylor,
        CoreMask.from_scores(magnitude, fraction=fraction),
        taylor.random_like(seed=bench.settings.seed),
    )
    return dict(zip(_CONDITIONS, made, strict=True))


def _removed(model: nn.Module, *, core_mask: CoreMask) -> Any:
    return perturb(model, core_mask, how="zero")


def _training_table(
    runs: Mapping[str, Mapping[str, Any]], before: Mapping[str, float], sources: Mapping[str, str], plan: _Plan
) -> Table:
    tokens = plan.samples * plan.block_size
    rows = tuple(
        (
            language,
            sources[language],
            plan.samples,
            tokens,
            before[language],
            float(run["losses"][language]),
        )
        for language, run in runs.items()
    )
    return Table(
        name="training",
        title="What each run was trained on and what it learned",
        columns=("language", "text", "samples", "tokens", "loss before", "loss after"),
        rows=rows,
        note="Loss on the language's own test text, in nats per token. No text is seen twice.",
    )

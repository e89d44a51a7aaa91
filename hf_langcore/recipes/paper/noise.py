"""What noise in the training text does: to the languages, and to single dimensions of the norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    losses_of,
    pretrain_further,
    rate_for,
)
from hf_langcore.recipes.paper.further_texts import block_size_for, enough_blocks, own_blocks
from hf_langcore.recipes.paper.noise_tables import (
    Run,
    dimension_table,
    effect_curves,
    effect_table,
    example_texts,
    language_table,
    rank_table,
)
from hf_langcore.recipes.paper.noise_text import KINDS, replaced, with_noise
from hf_langcore.report.parts import Part, Section

CLEAN = "clean"

_SHARES = (0.01, 0.05, 0.2)

_TEXT = (
    (
        "A copy of the model is pretrained further on {samples:,} samples of {block_size} tokens, equally many in each of {languages} "
        "({source}), each seen once. In the noisy runs a share of these samples is replaced by noise; all other samples, their "
        "order and the seed are those of the clean run, which is the control. So what the clean run does as well is not "
        "the noise's doing. A noisy run also sees so much less clean text."
    ),
    (
        "The slides say that noise shifts specific dimensions. What is measured: the shift of a norm's weight is how far it lies, "
        "after the noisy run, from where the clean run has left it. Two clean runs of different seeds differ, too: that "
        "difference is the control of the shift. **Rank of the core's dimensions** is the mean rank of those norm weights "
        "that the core has, among all of the same norm, from 0 (least shifted) to 1 (most); 0.5 is chance. Nothing is claimed "
        "about why a dimension moves."
    ),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    samples: torch.Tensor
    languages: tuple[str, ...]  # of each sample
    source: str
    training: FurtherTraining


def noise(
    bench: Bench,
    *,
    kinds: Sequence[str] = KINDS,
    shares: Sequence[float] = _SHARES,
    languages: Sequence[str] | None = None,
    samples: int | None = None,
    seeds: Sequence[int] = (0, 1),
    fraction: float | None = None,
    block_size: int | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
    bf16: bool = False,
) -> Section:
    """Train on clean text and on the same text with noise in it; compare languages and norm dimensions.

    Args:
        bench: The workbench.
        kinds: Of noise: "repeated words", "non-words", "mismatched instructions".
        shares: Of the samples that are noise; the clean run is always there.
        languages: To train on, mixed equally; those of the core if None.
        samples: Blocks in all; if None as many as the shortest text gives for each. If a text has fewer, all text is generated,
            and the section says so.
        seeds: Of order and noise; two are needed to tell a shift from what differs between clean runs anyway.
        fraction: Size of the core whose norm dimensions are looked at; the bench's if None.
        block_size: Tokens per block; the bench's if None (the published code has 512).
        batch_size: Blocks per step.
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.
        bf16: Train in mixed precision; weights stay float32.

    Raises:
        InputError: A kind, a share or a language is none, or there is not one batch of text.
    """
    _check(kinds, shares, seeds)
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, bf16=bf16)
    size = block_size_for(bench, block_size)
    plan, mixed = _planned(bench, languages, samples, training, size)
    conditions = [(CLEAN, 0.0), *((kind, share) for kind in kinds for share in sorted(shares) if share)]
    bench.progress.expect(len(conditions) * len(seeds) + 1)
    base = dict(bench.measure("base").nll)
    runs = {
        condition: [Run.read(_kept_run(bench, plan, *condition, seed)) for seed in seeds] for condition in conditions
    }
    words = {"samples": len(plan.samples), "block_size": size, "source": plan.source}
    core = bench.core(fraction)
    return Section(
        name="noise",
        title="What noise in the training text does",
        text=tuple(one.format(**words, languages=", ".join(mixed)) for one in _TEXT),
        parts=(
            effect_table(runs, base, samples=len(plan.samples)),
            effect_curves(runs, base),
            language_table(runs, base),
            *_dimensions(runs, _norms_of(core, bench.model)),
            example_texts(bench, kinds, mixed, block_size=size),
        ),
        facts={
            **bench.facts(),
            **words,
            "mixed": list(mixed),
            "kinds": list(kinds),
            "shares": list(shares),
            "seeds": list(seeds),
            "fraction": fraction or bench.settings.fraction,
            "training": training.to_dict(),
        },
    )


def _check(kinds: Sequence[str], shares: Sequence[float], seeds: Sequence[int]) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(f"kinds of noise are {list(KINDS)}, got {list(kinds)}.")
    if not any(shares) or not all(0 <= share <= 1 for share in shares):
        raise InputError(
            f"shares must lie between 0 and 1, one at least above 0, such as {_SHARES}; got {list(shares)}."
        )
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be different numbers, at least one, got {list(seeds)}.")


def _planned(
    bench: Bench, languages: Sequence[str] | None, samples: int | None, training: FurtherTraining, block_size: int
) -> tuple[_Plan, tuple[str, ...]]:
    """The clean samples, language after language, and the languages."""
    mixed = tuple(bench.core_languages if languages is None else languages)
    missing = [language for language in mixed if language not in bench.texts.train]
    if missing or not mixed:
        raise InputError(f"languages={list(mixed)}: there are texts for {bench.languages}.")
    shortest = min(len(own_blocks(bench, language, block_size=block_size)) for language in mixed)
    each = shortest if samples is None else samples // len(mixed)
    total = training.down(each * len(mixed))
    if total == 0:
        raise InputError(
            f"{each} samples in each of {len(mixed)} languages do not fill one batch of {training.batch_size}. Ask for more "
            "samples or a smaller block_size or batch_size, or give more text."
        )
    texts = {language: enough_blocks(bench, language, each, block_size=block_size) for language in mixed}
    sources = " and ".join(dict.fromkeys(text.source for text in texts.values()))
    blocks = torch.stack([text.blocks for text in texts.values()], dim=1).flatten(0, 1)[:total]
    codes = tuple(mixed[number % len(mixed)] for number in range(total))
    return _Plan(blocks, codes, sources, training), mixed


def _kept_run(bench: Bench, plan: _Plan, kind: str, share: float, seed: int) -> dict[str, Any]:
    settings = {
        "kind": kind,
        "share": share,
        "seed": seed,
        "languages": list(dict.fromkeys(plan.languages)),
        "samples": list(plan.samples.shape),
        "text": plan.source,
        "training": plan.training.to_dict(),
    }
    found: dict[str, Any] = bench.kept("noise", settings, lambda: _run(bench, plan, kind, share, seed))
    return found


def _run(bench: Bench, plan: _Plan, kind: str, share: float, seed: int) -> dict[str, Any]:
    model, samples = fresh_copy(bench), plan.samples
    before = _norms(model)
    if share:
        samples = with_noise(bench, samples, plan.languages, kind=kind, share=share, seed=seed)
    order = in_order(len(samples), seed=seed)
    pretrain_further(model, samples[order], replace(plan.training, seed=seed))
    losses = losses_of(model, {"test": bench.task}, batch_size=bench.settings.batch_size)["test"]
    moved = {name: (value - before[name]).tolist() for name, value in _norms(model).items()}
    return {"losses": losses, "replaced": replaced(len(samples), share), "norms": moved}


def _norms(model: nn.Module) -> dict[str, torch.Tensor]:
    """The gains of the norms in the decoder layers: vectors that are called weight."""
    return {
        name: weight.parameter.detach().cpu().double().clone()
        for name, weight in decoder_weights(model).items()
        if weight.parameter.dim() == 1 and name.endswith(".weight")
    }


def _norms_of(core_mask: CoreMask, model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: core_mask[name] for name in _norms(model) if name in core_mask}


def _dimensions(runs: Mapping[tuple[str, float], list[Run]], core: Mapping[str, torch.Tensor]) -> list[Part]:
    """What is said of norm dimensions; nothing where the model's norms have no weights."""
    return [rank_table(runs, core), dimension_table(runs, core)] if core else []

"""One dimension at several strengths: perplexity per language, and what the model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from hf_langcore.editing import scale_dimension
from hf_langcore.errors import InputError
from hf_langcore.evaluation import PerplexityReport, ScoringTask, score
from hf_langcore.modes import eval_mode
from hf_langcore.report.parts import Curves

Doses: TypeAlias = "Mapping[float, PerplexityReport]"


@dataclass(frozen=True, slots=True)
class ScaleSweep:
    """What scaling one dimension does.

    Attributes:
        report: Perplexity per language; the first condition is "base", then one per factor.
        generations: Condition -> greedy continuation of the prompt, the prompt included; empty without a prompt.
    """

    report: PerplexityReport
    generations: dict[str, str]


def scale_sweep(
    model: nn.Module,
    tokenizer: Any,
    task: ScoringTask,
    name: str,
    index: int,
    *,
    factors: Sequence[float],
    axis: int | None = None,
    prompt: str | None = None,
    max_new_tokens: int = 20,
    batch_size: int | Literal["auto"] = "auto",
    progress: bool = True,
) -> ScaleSweep:
    """Scale one dimension by each factor in turn, measure, and restore it.

    Args:
        model: A causal LM.
        tokenizer: Its tokenizer.
        task: Prepared texts, from `hf_langcore.evaluation.prepare_scoring`.
        name: As in `scale_dimension`.
        index: As in `scale_dimension`.
        factors: At least one.
        axis: As in `scale_dimension`.
        prompt: Also continue this text greedily under each condition.
        max_new_tokens: Length of the continuation.
        batch_size: Windows per forward pass.
        progress: Show progress bars.
    """
    if not factors:
        raise InputError("Pass at least one factor.")
    scale_dimension(model, name, index, factor=1.0, axis=axis).restore()  # wrong names are to be known before scoring
    reports = {"base": score(model, task, batch_size=batch_size, condition="base", progress=progress)}
    generations = {} if prompt is None else {"base": continuation(model, tokenizer, prompt, max_new_tokens)}
    for factor in factors:
        condition = f"x{factor:g}"
        with scale_dimension(model, name, index, factor=factor, axis=axis):
            reports[condition] = score(
                model, task, batch_size=batch_size, condition=condition, on_nonfinite="inf", progress=progress
            )
            if prompt is not None:
                generations[condition] = continuation(model, tokenizer, prompt, max_new_tokens)
    return ScaleSweep(PerplexityReport.compare(reports), generations)


def dose_curves(
    what: str,
    reports: Doses,
    languages: Sequence[str],
    *,
    beside: Sequence[Doses] = (),
    level: float | None = None,
) -> Curves:
    """Perplexity by factor: the mean over languages, and some languages one by one.

    Args:
        what: The dimension.
        reports: Factor -> report of one condition, factors ascending.
        languages: Those that get a line of their own.
        beside: The same of random other dimensions.
        level: Mean perplexity without an edit.
    """
    lines: dict[str, tuple[float | None, ...]] = {"mean": tuple(one.mean() for one in reports.values())}
    for language in languages:
        lines[language] = tuple(one.perplexity[language] for one in reports.values())
    for others in beside:
        lines["mean, random other dimension"] = tuple(one.mean() for one in others.values())
    title = f"{what}: perplexity by factor"
    return Curves("dose", title, "factor", "perplexity", tuple(reports), lines, y_scale="log", level=level)


def continuation(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int) -> str:
    """The prompt and what the model says after it, greedily.

    Args:
        model: A causal LM, as it is now.
        tokenizer: Its tokenizer.
        prompt: A text.
        max_new_tokens: At most so many tokens.
    """
    ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=next(model.parameters()).device)
    pad = next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
    with eval_mode(model), torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=pad,
        )
    return str(tokenizer.decode(out[0], skip_special_tokens=True))

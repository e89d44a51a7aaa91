"""Sampling in batches, with random numbers of its own for each row, so that a text does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from hf_langcore.replay.settings import ReplaySettings

Uniforms = NDArray[np.float64]


def random_numbers(key: Sequence[int], count: int) -> Uniforms:
    """The numbers that decide the tokens of one row, uniform in [0, 1)."""
    return np.random.default_rng(list(key)).random(count)


def continuations(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[Uniforms],
    settings: ReplaySettings,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
) -> list[list[int]]:
    """What the model writes after each prompt.

    Args:
        model: A causal LM with transformers' `generate`.
        prompts: Token ids of each prompt; at least one each.
        uniforms: Of each row, as many numbers as tokens may come.
        settings: Temperature and nucleus.
        stop_ids: Tokens that end a text.
        pad_id: Fills up shorter prompts on the left, where no token looks.

    Returns:
        The new token ids of each row, without the one that ended it.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    numbers = torch.from_numpy(np.stack(uniforms))
    draw = _InverseSampling(numbers.to(device), width, temperature=settings.temperature, top_p=settings.top_p)
    generator: Any = model
    written = generator.generate(
        input_ids=ids,
        attention_mask=seen,
        generation_config=GenerationConfig(
            do_sample=False,  # the processor has drawn already, and leaves one token
            max_new_tokens=numbers.shape[1],
            eos_token_id=list(stop_ids) or None,
            pad_token_id=pad_id,
            use_cache=True,
        ),
        logits_processor=LogitsProcessorList([draw]),
    )
    return [_until(row, set(stop_ids)) for row in written[:, width:].tolist()]


class _InverseSampling(LogitsProcessor):  # type: ignore[misc]
    """Leaves the one token in whose stretch of the cumulated probabilities a row's random number falls."""

    def __init__(self, uniforms: torch.Tensor, width: int, *, temperature: float, top_p: float) -> None:
        self._uniforms = uniforms
        self._width = width
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        number = self._uniforms[:, input_ids.shape[1] - self._width, None]
        ordered, tokens = (scores.double() / self._temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        cumulated = ordered.cumsum(-1)
        inside = cumulated - ordered < self._top_p
        mass = (ordered * inside).sum(-1, keepdim=True)
        # The last token inside, should rounding put the number behind the sum.
        place = torch.minimum((cumulated <= number * mass).sum(-1, keepdim=True), inside.sum(-1, keepdim=True) - 1)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens.gather(-1, place), 0.0)


def _until(tokens: list[int], stop_ids: set[int]) -> list[int]:
    end = next((position for position, token in enumerate(tokens) if token in stop_ids), len(tokens))
    return tokens[:end]

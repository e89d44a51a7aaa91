"""Additions and subtractions as prompts and completions, in the manner of Goat (Liu and Low, 2023)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.modes import eval_mode

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class CompletionScore:
    """How well a model completes prompts.

    Attributes:
        loss: Mean over all tokens of the completions, in nats per token; the end token counts.
        exact_match: Share of rows whose greedy completion is right to the last token, end token included.
    """

    loss: float
    exact_match: float


def arithmetic_rows(
    train: int, test: int, *, largest: int = 99, train_seed: int = 0, test_seed: int = 0
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows to learn from, and rows of other problems to measure on; no problem comes twice.

    Subtractions have the larger number first, so that no result is negative. The test rows depend on `test_seed`
    alone: runs with different training rows are measured on the same problems.

    Args:
        train: Number of rows to learn from.
        test: Number of rows to measure on.
        largest: Numbers are from 0 to this one.
        train_seed: Draws the training rows from the problems that the test rows leave.
        test_seed: Draws the test rows.

    Raises:
        InputError: There are not so many problems.
    """
    numbers = range(largest + 1)
    problems = [(a, "+", b) for a in numbers for b in numbers] + [(a, "-", b) for a in numbers for b in range(a + 1)]
    if train < 1 or test < 1 or train + test > len(problems):
        raise InputError(
            f"{train:,} training rows and {test:,} test rows were asked for; with numbers up to {largest} there are "
            f"{len(problems):,} problems, and at least one row is needed on each side. Raise largest, or ask for fewer rows."
        )
    random.Random(test_seed).shuffle(problems)
    chosen = random.Random(train_seed).sample(problems[test:], train)
    return [_row(*problem) for problem in chosen], [_row(*problem) for problem in problems[:test]]


def _row(first: int, operation: str, second: int) -> dict[str, str]:
    result = first + second if operation == "+" else first - second
    return {"prompt": f"{first} {operation} {second} =", "completion": f" {result}"}


def completion_score(
    model: Any, tokenizer: Any, rows: Sequence[dict[str, str]], *, batch_size: int = 64
) -> CompletionScore:
    """Score completions as SFTTrainer trains them: prompt and completion as one text, with an end token.

    Greedy decoding gives the completion exactly if each of its tokens is the likeliest one after the right tokens
    before it, so that one forward pass tells both figures.

    Args:
        model: A causal LM, as it is now.
        tokenizer: Its tokenizer.
        rows: Rows with `prompt` and `completion`.
        batch_size: Rows per forward pass; it does not change the figures.
    """
    encoded = [_encoded(tokenizer, row) for row in rows]
    total, count, right = 0.0, 0, 0
    with eval_mode(model), torch.inference_mode():
        for first in range(0, len(encoded), batch_size):
            losses, tokens, exact = _score_batch(model, encoded[first : first + batch_size], tokenizer.eos_token_id)
            total, count, right = total + losses, count + tokens, right + exact
    return CompletionScore(total / count, right / len(encoded))


def _encoded(tokenizer: Any, row: dict[str, str]) -> tuple[list[int], int]:
    """Token ids, and how many of them are the prompt's."""
    prompt = tokenizer(row["prompt"])["input_ids"]
    return [*tokenizer(row["prompt"] + row["completion"])["input_ids"], tokenizer.eos_token_id], len(prompt)


def _score_batch(model: Any, rows: Sequence[tuple[list[int], int]], pad: int) -> tuple[float, int, int]:
    """Summed loss, number of scored tokens, rows that are right to the last token; rows are padded at the end."""
    width = max(len(ids) for ids, _ in rows)
    device = next(model.parameters()).device
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row, _ in rows], device=device)
    labels = torch.full_like(ids, _IGNORED)
    for number, (row, prompt) in enumerate(rows):
        labels[number, prompt : len(row)] = ids[number, prompt : len(row)]
    logits, wanted = model(input_ids=ids, use_cache=False).logits[:, :-1].float(), labels[:, 1:]
    scored = wanted != _IGNORED
    loss = nn.functional.cross_entropy(logits[scored], wanted[scored], reduction="sum")
    right = (logits.argmax(dim=-1) == wanted) | ~scored
    return float(loss), int(scored.sum()), int(right.all(dim=-1).sum())

"""How well a model completes prompts, with the right tokens before each token that is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.data import check_batch_size, require_decoder_only
from hf_langcore.data.blocks import IGNORED
from hf_langcore.data.rows import tokenise
from hf_langcore.errors import InputError
from hf_langcore.modes import eval_mode

DEFAULT_BATCH = 64


@dataclass(frozen=True, slots=True)
class CompletionScore:
    """How well a model completes prompts.

    Attributes:
        loss: Mean over all tokens of the completions, in nats per token; the end token counts.
        exact_match: Share of rows whose greedy completion is right to the last token, end token included.
    """

    loss: float
    exact_match: float


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's completion.

    Attributes:
        loss: Sum over its tokens, in nats.
        tokens: Their number.
        right: Whether each of them is the likeliest one.
    """

    loss: float
    tokens: int
    right: bool


def completion_score(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], *, batch_size: int = DEFAULT_BATCH
) -> CompletionScore:
    """Score completions as SFTTrainer trains them: prompt and completion as one text, with an end token.

    Greedy decoding gives the completion exactly if each of its tokens is the likeliest one after the right tokens
    before it, so that one forward pass tells both figures.

    Args:
        model: A causal LM as it is now, bare or wrapped; the virtual tokens of prompt and prefix tuning are left aside.
        tokenizer: Its tokenizer.
        rows: Rows with `prompt` and `completion`, strings.
        batch_size: Rows per forward pass; it does not change the figures.

    Raises:
        InputError: There are no rows, a row has no prompt or completion, or `batch_size` is no number from 1.
        UnsupportedModelError: The model is no causal LM.
    """
    return total_score(completion_scores(model, tokenizer, rows, batch_size=batch_size))


def completion_scores(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], *, batch_size: int = DEFAULT_BATCH
) -> list[Scored]:
    """Like `completion_score`, row by row."""
    check_rows(rows, batch_size)
    require_decoder_only(model, feature="Scoring completions")
    encoded = [tokenise(row, tokenizer, form="prompt_completion") for row in rows]
    scores: list[Scored] = []
    with eval_mode(model), torch.inference_mode():
        for first in range(0, len(encoded), batch_size):
            scores += _score_batch(model, encoded[first : first + batch_size])
    return scores


def total_score(scores: Sequence[Scored]) -> CompletionScore:
    """The mean over all tokens, and the share of rows."""
    tokens = sum(score.tokens for score in scores)
    return CompletionScore(
        sum(score.loss for score in scores) / tokens, sum(score.right for score in scores) / len(scores)
    )


def check_rows(rows: Sequence[Mapping[str, Any]], batch_size: int) -> None:
    """Refuse what cannot be scored.

    Raises:
        InputError: There are no rows, a row has no prompt or completion, or `batch_size` is no number from 1.
    """
    if check_batch_size(batch_size) is None:
        raise InputError("batch_size is a whole number of at least 1 here; got 'auto'.")
    if not rows:
        raise InputError("There are no rows to score; give at least one with `prompt` and `completion`.")
    for number, row in enumerate(rows):
        for column in ("prompt", "completion"):
            if not isinstance(row.get(column), str) or not row[column]:
                raise InputError(
                    f"Row {number} needs a {column}, a string that is not empty; got {row.get(column)!r:.100}."
                )


def _score_batch(model: Any, rows: Sequence[Mapping[str, list[int]]]) -> list[Scored]:
    """Rows are padded at the end, where no token of theirs looks, so that any token will do."""
    width = max(len(row["input_ids"]) for row in rows)
    device = next(model.parameters()).device

    def padded(column: str, filler: int) -> torch.Tensor:
        return torch.tensor([[*row[column], *[filler] * (width - len(row[column]))] for row in rows], device=device)

    ids, wanted = padded("input_ids", 0), padded("labels", IGNORED)[:, 1:]
    seen = (
        torch.arange(width, device=device) < torch.tensor([[len(row["input_ids"])] for row in rows], device=device)
    ).long()
    # Prompt tuning puts virtual tokens in front: what belongs to the row is at the end.
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, -width:][:, :-1]
    scored = wanted != IGNORED
    logits, wanted, owner = logits[scored].float(), wanted[scored], scored.nonzero()[:, 0]
    losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
    sums = losses.new_zeros(3, len(rows))
    sums.index_add_(1, owner, torch.stack([losses, torch.ones_like(losses), (logits.argmax(-1) != wanted).float()]))
    return [Scored(loss, int(tokens), wrong == 0) for loss, tokens, wrong in sums.T.tolist()]

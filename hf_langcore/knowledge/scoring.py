"""Log-likelihoods of alternatives that begin alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import StartToken, Window, encode, start_token, usable_block_size
from hf_langcore.errors import CorpusError
from hf_langcore.evaluation import window_losses
from hf_langcore.knowledge.items import Fact, KnowledgeSet, MinimalPair

Likelihoods = tuple[float, ...]
"""Log-likelihood of each alternative in nats; minus infinity where the model gives no number."""


def score_set(
    model: nn.Module,
    tokenizer: Any,
    items: KnowledgeSet,
    *,
    bos_token_id: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
) -> tuple[list[Likelihoods], list[Likelihoods]]:
    """The facts and the minimal pairs of one language, each in its order; the right alternative comes first.

    Raises:
        CorpusError: An alternative is longer than the model's context.
    """
    start = start_token(tokenizer, bos_token_id)
    windows: list[list[Window]] = []
    entries: list[Fact | MinimalPair] = [*items.facts, *items.pairs]
    for entry in entries:
        windows.append(_windows(tokenizer, start, *_texts(entry, items.joiner)))
        _require_room(model, windows[-1], items.language, entry)
    losses = window_losses(
        model, [window for group in windows for window in group], pad_id=start.id, batch_size=batch_size
    )
    sums = iter([_log_likelihood(float(loss.double().sum())) for loss in losses])
    scored = [tuple(next(sums) for _ in group) for group in windows]
    return scored[: len(items.facts)], scored[len(items.facts) :]


def _texts(entry: Fact | MinimalPair, joiner: str) -> tuple[str, list[str]]:
    """What all alternatives begin with, and each of them in full."""
    if isinstance(entry, MinimalPair):
        return "", [entry.grammatical, entry.ungrammatical]
    return entry.prompt, [f"{entry.prompt}{joiner}{each}" for each in (entry.right, *entry.wrong)]


def _windows(tokenizer: Any, start: StartToken, prompt: str, texts: Sequence[str]) -> list[Window]:
    """The alternatives, scored from the first token on which is not the prompt's in all of them.

    A tokenizer may draw the end of the prompt and the beginning of a completion into one token. All alternatives are
    scored from the same place on, so that none is spared a token that another one pays for.
    """
    ids = [encode(tokenizer, text) for text in texts]
    shared = _common([encode(tokenizer, prompt), *ids]) if prompt else 0
    shared = min(shared, *(len(each) - 1 for each in ids))
    return [Window((start.id, *each), 1 + max(shared, 0)) for each in ids]


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning."""
    return next(
        (place for place, tokens in enumerate(zip(*sequences, strict=False)) if len(set(tokens)) > 1),
        min(map(len, sequences)),
    )


def _require_room(model: nn.Module, windows: Sequence[Window], language: str, entry: Fact | MinimalPair) -> None:
    longest = max(len(window.ids) for window in windows)
    name = entry.name if isinstance(entry, Fact) else entry.grammatical
    if any(window.num_scored < 1 for window in windows):
        raise CorpusError(f"{language!r}, {name!r}: the tokenizer makes no token of it.")
    if longest > usable_block_size(unwrap(model), max(longest, 3)):
        raise CorpusError(
            f"{language!r}, {name!r}: it has {longest} tokens with the start token, more than the model's context. Shorten it."
        )


def _log_likelihood(loss: float) -> float:
    """A destroyed model may give NaN: then nothing is likely."""
    return -loss if math.isfinite(loss) else -math.inf

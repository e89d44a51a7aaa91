"""Which texts that a model has written are of no use as general data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Flaw = Literal["empty", "repeating"]

_WINDOW = 64  # tokens that are looked at together
_FEWEST = 16  # shorter texts repeat by chance
_GRAM = 3
_DISTINCT = 0.3  # ordinary text stays above 0.7; a loop of a few words falls below 0.2


def flaw_of(text: str, tokens: Sequence[int]) -> Flaw | None:
    """What is wrong with a text, or None.

    Args:
        text: The text.
        tokens: The token ids that the model has written.

    Returns:
        "empty" where nothing visible was written, "repeating" where some 64 tokens in a row, or all of a shorter
        text, are a loop: fewer than 3 in 10 of their sequences of three tokens are different.
    """
    if not tokens or not text.strip():
        return "empty"
    last = max(1, len(tokens) - _WINDOW + 1)
    starts = [*range(0, last, _WINDOW // 2), last - 1]
    return "repeating" if any(_is_loop(tokens[start : start + _WINDOW]) for start in starts) else None


def _is_loop(tokens: Sequence[int]) -> bool:
    if len(tokens) < _FEWEST:
        return False
    grams = [tuple(tokens[start : start + _GRAM]) for start in range(len(tokens) - _GRAM + 1)]
    return len(set(grams)) < _DISTINCT * len(grams)

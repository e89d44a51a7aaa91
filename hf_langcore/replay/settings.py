"""How a model writes its own general data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_langcore.errors import InputError

SELF_REPLAY = "self-replay"
"""Name of the texts that a model wrote itself among the sources of general data."""


@dataclass(frozen=True)
class ReplaySettings:
    """Everything but model, tokenizer and prompts that decides which texts come.

    Attributes:
        seed_tokens: Tokens of a given text that the model goes on from.
        max_new_tokens: Tokens that the model writes, at most.
        temperature: Divides the logits.
        top_p: Tokens are drawn from the most probable ones that have this probability together.
        seed: Seed of the draws.
        chat: Whether the model writes instructions and answers to them through its chat template.
    """

    seed_tokens: int = 4
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    chat: bool = False

    def __post_init__(self) -> None:
        check_settings(
            rows=1,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed_tokens=self.seed_tokens,
            seed=self.seed,
        )


def check_settings(
    *,
    rows: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed_tokens: int = 1,
    seed: int = 0,
    fewest_rows: int = 1,
) -> None:
    """Refuse settings with which nothing can be written.

    Raises:
        InputError: One is out of range; the message says which.
    """
    whole = {
        "rows": (rows, fewest_rows),
        "max_new_tokens": (max_new_tokens, 1),
        "seed_tokens": (seed_tokens, 1),
        "seed": (seed, 0),
    }
    for name, (value, smallest) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise InputError(f"Self-replay: {name} must be a whole number of at least {smallest}, got {value!r}.")
    if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0):
        raise InputError(f"Self-replay: temperature must be a finite number above 0, got {temperature!r}.")
    if not (isinstance(top_p, (int, float)) and 0 < top_p <= 1):
        raise InputError(f"Self-replay: top_p must be above 0 and at most 1, got {top_p!r}.")

"""Noise as it stands in badly cleaned training text: repeated words, non-words, instructions with the wrong answers."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from hf_langcore.data import encode, start_token
from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.workbench import Bench

REPEATED, NON_WORDS, MISMATCHED = "repeated words", "non-words", "mismatched instructions"

_LONGEST_WORD = 12
_LONGEST_PIECE = 120

Texts = Mapping[str, Sequence[str]]


def _repeated(texts: Texts, language: str, drawn: random.Random) -> str:
    """One word of the language's own text; where words are not parted by spaces, a few characters."""
    document = drawn.choice(texts[language])
    words = [word for word in re.findall(r"\w+", document) if len(word) > 1] or [document[:2]]
    return f"{drawn.choice(words)[:_LONGEST_WORD]} "


def _non_words(_texts: Texts, _language: str, drawn: random.Random) -> str:
    return "".join(drawn.choice(string.ascii_lowercase) for _ in range(drawn.randint(4, 10))) + " "


def _mismatched(texts: Texts, language: str, drawn: random.Random) -> str:
    """The beginning of one document as the instruction, the middle of a document of any language as the answer."""
    asked = drawn.choice(texts[language])[:_LONGEST_PIECE]
    other = drawn.choice(texts[drawn.choice(list(texts))])
    start = drawn.randrange(max(1, len(other) - _LONGEST_PIECE))
    return f"### Instruction:\n{asked}\n\n### Response:\n{other[start : start + _LONGEST_PIECE]}\n\n"


_PIECES: dict[str, Callable[[Texts, str, random.Random], str]] = {
    REPEATED: _repeated,
    NON_WORDS: _non_words,
    MISMATCHED: _mismatched,
}

KINDS = tuple(_PIECES)
"""Kinds of noise; in the first one a sample is one word again and again."""


def noisy_block(bench: Bench, kind: str, language: str, *, block_size: int, seed: str) -> list[int]:
    """One sample that is noise from its start token to its end.

    Args:
        bench: Has the tokenizer, and the texts that words and pieces are taken from.
        kind: One of `KINDS`.
        language: Of the sample that it replaces.
        block_size: Tokens, the start token included.
        seed: Draws the noise.

    Raises:
        InputError: There is no such kind.
    """
    if kind not in _PIECES:
        raise InputError(f"kinds of noise are {list(KINDS)}, got {kind!r}.")
    drawn, made = random.Random(seed), _PIECES[kind]
    text = first = made(bench.texts.train, language, drawn)
    while len(ids := encode(bench.tokenizer, text)) < block_size - 1:
        # A repeated word goes on as it is; other noise is new each time.
        text += first if kind == REPEATED else made(bench.texts.train, language, drawn)
    return [start_token(bench.tokenizer).id, *ids[: block_size - 1]]


def with_noise(
    bench: Bench, samples: torch.Tensor, languages: Sequence[str], *, kind: str, share: float, seed: int
) -> torch.Tensor:
    """Replace a share of the samples; a larger share replaces those of a smaller one with the same noise, and others too.

    Args:
        bench: Has the tokenizer and the texts.
        samples: int64, (samples, tokens).
        languages: Language of each sample.
        kind: One of `KINDS`.
        share: From 0 to 1; above 0 at least one sample is replaced.
        seed: Chooses the samples and draws the noise.
    """
    count = replaced(len(samples), share)
    places = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:count]
    changed = samples.clone()
    for place in places.tolist():
        words = f"{seed}/{kind}/{place}"
        block = noisy_block(bench, kind, languages[place], block_size=samples.shape[1], seed=words)
        changed[place] = torch.tensor(block)
    return changed


def replaced(samples: int, share: float) -> int:
    """How many samples a share is."""
    return max(1, round(share * samples)) if share > 0 else 0


def pieces_of(tokenizer: Any, block: Sequence[int]) -> str:
    """A block as text, to be shown; the ids where the tokenizer cannot decode."""
    decode = getattr(tokenizer, "decode", None)
    return str(decode(list(block)[1:])) if callable(decode) else " ".join(map(str, block))

"""Rows of text for further pretraining: sentences, so that every vocabulary is trained on the same text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hf_langcore.data import encode, pack_blocks, start_token
from hf_langcore.errors import CorpusError

# After a full stop that a space follows, or after a Chinese or Japanese one, which nothing need follow.
_END = re.compile(
    r"(?<=[\u3002\uff01\uff1f])(?![\u3002\uff01\uff1f\u201d\u2019\u300d\u300f\uff09])|(?<=[.!?\u061f\u0964\u2026])(?=\s)"
)


def sentences(text: str) -> list[str]:
    """The sentences of a document, spaces before them included: put together they are the document."""
    return [part for part in _END.split(text) if part]


def count_rows(documents: Sequence[str]) -> int:
    """Number of sentences in all documents."""
    return sum(len(sentences(text)) for text in documents)


def first_rows(documents: Sequence[str], count: int) -> list[str]:
    """The documents as far as their first `count` sentences reach; the last one is cut short."""
    found: list[str] = []
    for text in documents:
        if count <= 0:
            break
        parts = sentences(text)
        found.append("".join(parts[:count]))
        count -= len(parts)
    return found


def shuffled(documents: Sequence[str], seed: int) -> list[str]:
    """The documents in another order."""
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    return [documents[place] for place in order]


def measured_texts(
    texts: Mapping[str, Sequence[str]], tokenizer: Any, *, max_tokens: int | None
) -> dict[str, list[str]]:
    """Language -> its first sentences, about `max_tokens` of them: whole ones, so that every tokenizer reads the same bytes."""
    found = {}
    for language, documents in texts.items():
        kept, left = 0, float("inf") if max_tokens is None else max_tokens
        for part in (one for text in documents for one in sentences(text)):
            left -= len(encode(tokenizer, part))
            if left < 0 and kept:
                break
            kept += 1
        found[language] = first_rows(documents, kept)
    return found


def packed(
    language: str, documents: Sequence[str], tokenizer: Any, *, block_size: int, most: int | None = None
) -> torch.Tensor:
    """Blocks of a text, `most` of them at most.

    Raises:
        CorpusError: The text does not fill one.
    """
    start = start_token(tokenizer)
    limit = None if most is None else most * block_size
    blocks = pack_blocks(language, documents, tokenizer, start=start, block_size=block_size, max_tokens=limit)
    if blocks.shape[1] < block_size:
        raise CorpusError(
            f"{language!r}: {len(documents)} documents do not fill one block of {block_size} tokens. Give more text, or a "
            "smaller block_size."
        )
    return blocks


def general_blocks(
    texts: Mapping[str, Sequence[str]], tokenizer: Any, count: int, *, block_size: int, seed: int
) -> torch.Tensor:
    """Blocks of other languages in turn, equally many of each as far as its text goes; none comes twice.

    Raises:
        CorpusError: There are not so many.
    """
    for most in (-(-count // len(texts)), count):  # more of the longer texts only where a shorter one ends
        packs = [
            packed(language, shuffled(documents, seed), tokenizer, block_size=block_size, most=most)
            for language, documents in texts.items()
        ]
        rows = [pack[place] for place in range(most) for pack in packs if place < len(pack)]
        if len(rows) >= count:
            break
    if len(rows) < count:
        raise CorpusError(
            f"{count:,} blocks of other languages are to be mixed in, and their texts fill {len(rows):,}. Ask for fewer samples, "
            "a smaller general_ratio, or give more text."
        )
    return torch.stack(rows[:count])


def mixed(blocks: torch.Tensor, general: torch.Tensor, ratio: int) -> torch.Tensor:
    """After each block `ratio` general ones."""
    groups = [blocks[:, None], general.reshape(len(blocks), ratio, -1)]
    return torch.cat(groups, dim=1).flatten(0, 1)

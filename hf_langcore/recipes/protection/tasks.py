"""What is learned and what is to be kept: the two tasks of the experiment on protection."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from hf_langcore.data import Corpora, Window, pack_blocks, read_texts, start_token
from hf_langcore.evaluation import ScoringTask, score
from hf_langcore.recipes.arithmetic import arithmetic_rows, completion_score


@dataclass(frozen=True, slots=True)
class Target:
    """How well the task is done.

    Attributes:
        loss: In nats per token, on rows or text that are not trained on.
        exact_match: Share of rows that are completely right; None where there are no rows.
    """

    loss: float
    exact_match: float | None = None


@dataclass(frozen=True, slots=True)
class ProtectionSize:
    """How much is trained and measured.

    Attributes:
        block_size: Tokens per block of text, in training and in measuring.
        blocks: Blocks of the target language that a run trains on.
        batch_size: Blocks per step.
        sums: Rows of arithmetic that a run trains on.
        sums_batch_size: Rows per step.
        sums_general_block: Tokens per block of the general data beside arithmetic; shorter than `block_size`,
            because the rows of arithmetic are padded to it.
        test_sums: Rows of arithmetic to measure on.
        general_blocks: Blocks per language from which general data is drawn.
        target_blocks: Blocks of held-out text of the target language.
        kept_blocks: Blocks of held-out text of each language that is to be kept.
    """

    block_size: int = 128
    blocks: int = 192
    batch_size: int = 3
    sums: int = 1280
    sums_batch_size: int = 16
    sums_general_block: int = 32
    test_sums: int = 256
    general_blocks: int = 200
    target_blocks: int = 24
    kept_blocks: int = 4


@dataclass(frozen=True, slots=True)
class ProtectionTask:
    """Something to learn, and the languages to be kept meanwhile.

    Attributes:
        name: For files and titles.
        rows: Seed -> rows to train on, once each.
        general: Blocks of the languages to be kept, which general data is drawn from.
        target: Measures what was learned.
        kept: Held-out text of the languages to be kept.
        source: Training text of these languages, to compute importance from.
        batch_size: Rows per step.
        size: How much is trained and measured.
    """

    name: str
    rows: Callable[[int], Dataset]
    general: Dataset
    target: Callable[[nn.Module], Target]
    kept: ScoringTask
    source: Corpora
    batch_size: int
    size: ProtectionSize


def language_task(
    tokenizer: Any, language: str, train: Corpora, test: Corpora, *, size: ProtectionSize | None = None
) -> ProtectionTask:
    """Learn one language from its text alone; the others are to be kept.

    Args:
        tokenizer: The model's tokenizer.
        language: The language to learn.
        train: Text to learn from, of all languages.
        test: Held-out text of the same languages.
        size: How much to train and to measure.
    """
    size = size or ProtectionSize()
    others = [code for code in test if code != language]
    own = _blocks(tokenizer, language, train, block_size=size.block_size)
    held_out = _spread(tokenizer, [language], test, block_size=size.block_size, count=size.target_blocks)
    return ProtectionTask(
        name=language,
        rows=lambda seed: _dataset(random.Random(seed).sample(own, min(size.blocks, len(own)))),
        general=_general(tokenizer, others, train, block_size=size.block_size, count=size.general_blocks),
        target=lambda model: Target(score(model, held_out, progress=False).nll[language]),
        kept=_spread(tokenizer, others, test, block_size=size.block_size, count=size.kept_blocks),
        source={code: train[code] for code in others},
        batch_size=size.batch_size,
        size=size,
    )


def arithmetic_task(
    tokenizer: Any, train: Corpora, test: Corpora, *, size: ProtectionSize | None = None
) -> ProtectionTask:
    """Learn additions and subtractions from prompts and completions; all languages are to be kept.

    Args:
        tokenizer: The model's tokenizer.
        train: Text of all languages, for general data and importance.
        test: Held-out text of the same languages.
        size: How much to train and to measure.
    """
    size = size or ProtectionSize()
    held_out = arithmetic_rows(size.sums, size.test_sums)[1]

    def measure(model: nn.Module) -> Target:
        found = completion_score(model, tokenizer, held_out)
        return Target(found.loss, found.exact_match)

    return ProtectionTask(
        name="arithmetic",
        rows=lambda seed: Dataset.from_list(arithmetic_rows(size.sums, size.test_sums, train_seed=seed)[0]),
        general=_general(tokenizer, list(test), train, block_size=size.sums_general_block, count=size.general_blocks),
        target=measure,
        kept=_spread(tokenizer, list(test), test, block_size=size.block_size, count=size.kept_blocks),
        source={code: train[code] for code in test},
        batch_size=size.sums_batch_size,
        size=size,
    )


def _blocks(
    tokenizer: Any, language: str, texts: Corpora, *, block_size: int, max_tokens: int | None = None
) -> list[list[int]]:
    start = start_token(tokenizer)
    source = read_texts(language, texts[language])
    packed: list[list[int]] = pack_blocks(
        language, source, tokenizer, start=start, block_size=block_size, max_tokens=max_tokens
    ).tolist()
    return packed


def _general(tokenizer: Any, languages: list[str], texts: Corpora, *, block_size: int, count: int) -> Dataset:
    limit = count * block_size
    return _dataset(
        [
            block
            for language in languages
            for block in _blocks(tokenizer, language, texts, block_size=block_size, max_tokens=limit)
        ]
    )


def _dataset(blocks: list[list[int]]) -> Dataset:
    return Dataset.from_dict({"input_ids": blocks})


def _spread(tokenizer: Any, languages: list[str], texts: Corpora, *, block_size: int, count: int) -> ScoringTask:
    """Blocks at equal distances over all of a language's text, so that no single document decides."""
    windows = {}
    for language in languages:
        blocks = _blocks(tokenizer, language, texts, block_size=block_size)
        positions = torch.linspace(0, len(blocks) - 1, min(count, len(blocks))).long().tolist()
        windows[language] = [Window(tuple(blocks[position]), 1) for position in positions]
    return ScoringTask(windows, start_token(tokenizer), {"block_size": block_size})

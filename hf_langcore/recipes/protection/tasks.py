"""What is learned and what is to be kept: the two tasks of the experiment on protection."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from hf_langcore.data import Corpora, Window, pack_blocks, read_texts, start_token
from hf_langcore.evaluation import ScoringTask, score
from hf_langcore.instructions import arithmetic_rows, completion_score, evaluate_arithmetic

_TRAINED = ["prompt", "completion"]


@dataclass(frozen=True, slots=True)
class Target:
    """How well the task is done.

    Attributes:
        loss: In nats per token, on rows or text that are not trained on.
        exact_match: Share of rows that are completely right; None where there are no rows.
        digit_match: Mean share of the answers' digits that are right; likewise.
    """

    loss: float
    exact_match: float | None = None
    digit_match: float | None = None


@dataclass(frozen=True, slots=True)
class ProtectionSize:
    """How much is trained and measured.

    Attributes:
        block_size: Tokens per block of text, in training and in measuring.
        blocks: Blocks of the target language that a run trains on.
        batch_size: Blocks per step.
        sums: Rows of arithmetic that a run trains on.
        largest: The largest number that is added or subtracted.
        sums_epochs: How often each of these rows is trained.
        sums_batch_size: Rows per step.
        sums_general_block: Tokens per block of the general data beside arithmetic; shorter than `block_size`,
            because the rows of arithmetic are padded to it.
        test_sums: Rows of arithmetic to measure on.
        choice_sums: Other rows, by which a learning rate is chosen.
        general_blocks: Blocks per language from which general data is drawn.
        target_blocks: Blocks of held-out text of the target language.
        choice_blocks: Blocks of its training text that no run trains on, by which a learning rate is chosen.
        kept_blocks: Blocks of held-out text of each language that is to be kept.
    """

    block_size: int = 128
    blocks: int = 192
    batch_size: int = 3
    sums: int = 1280
    largest: int = 99
    sums_epochs: int = 1
    sums_batch_size: int = 16
    sums_general_block: int = 32
    test_sums: int = 256
    choice_sums: int = 128
    general_blocks: int = 200
    target_blocks: int = 24
    choice_blocks: int = 12
    kept_blocks: int = 4


@dataclass(frozen=True, slots=True)
class ProtectionTask:
    """Something to learn, and the languages to be kept meanwhile.

    Attributes:
        name: For files and titles.
        rows: Seed -> rows to train on.
        epochs: How often each of them is trained.
        general: Blocks of the languages to be kept, which general data is drawn from.
        target: Measures what was learned.
        choice: The loss on other rows or text, in nats per token, which are neither trained on nor reported: what learning
            rates are chosen by.
        kept: Held-out text of the languages to be kept.
        source: Training text of these languages, to compute importance from.
        batch_size: Rows per step.
        size: How much is trained and measured.
        digest: Of all texts and rows; what a kept run is compared by.
    """

    name: str
    rows: Callable[[int], Dataset]
    epochs: int
    general: Dataset
    target: Callable[[nn.Module], Target]
    choice: Callable[[nn.Module], float]
    kept: ScoringTask
    source: Corpora
    batch_size: int
    size: ProtectionSize
    digest: str


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
    blocks = _blocks(tokenizer, language, train, block_size=size.block_size)
    put_aside = set(_positions(len(blocks), min(size.choice_blocks, len(blocks) // 2)))
    own = [block for position, block in enumerate(blocks) if position not in put_aside]
    choice = _windows(tokenizer, {language: [blocks[position] for position in sorted(put_aside)]}, size.block_size)
    held_out = _spread(tokenizer, [language], test, block_size=size.block_size, count=size.target_blocks)
    general = _general(tokenizer, others, train, block_size=size.block_size, count=size.general_blocks)
    kept = _spread(tokenizer, others, test, block_size=size.block_size, count=size.kept_blocks)
    return ProtectionTask(
        name=language,
        rows=lambda seed: _dataset(random.Random(seed).sample(own, min(size.blocks, len(own)))),
        epochs=1,
        general=general,
        target=lambda model: Target(score(model, held_out, progress=False).nll[language]),
        choice=lambda model: score(model, choice, progress=False).nll[language],
        kept=kept,
        source={code: train[code] for code in others},
        batch_size=size.batch_size,
        size=size,
        digest=_digest(own, choice, held_out, general, kept),
    )


def arithmetic_task(
    tokenizer: Any, train: Corpora, test: Corpora, *, size: ProtectionSize | None = None
) -> ProtectionTask:
    """Learn additions and subtractions from prompts and completions, in the manner of Goat; all languages are to be kept.

    What is measured are other problems than those that are trained on, whatever the seed; the problems by which learning
    rates are chosen are a third group.

    Args:
        tokenizer: The model's tokenizer.
        train: Text of all languages, for general data and importance.
        test: Held-out text of the same languages.
        size: How much to train and to measure.
    """
    size = size or ProtectionSize()
    held_out = _sums(size.test_sums, size)
    choice = _sums(size.choice_sums, size, seed=1, exclude=held_out)
    general = _general(tokenizer, list(test), train, block_size=size.sums_general_block, count=size.general_blocks)
    kept = _spread(tokenizer, list(test), test, block_size=size.block_size, count=size.kept_blocks)

    def rows(seed: int) -> Dataset:
        return Dataset.from_list(_sums(size.sums, size, seed=seed, exclude=[*held_out, *choice])).select_columns(
            _TRAINED
        )

    def measure(model: nn.Module) -> Target:
        found = evaluate_arithmetic(model, tokenizer, held_out)
        return Target(found.loss, found.exact_match, found.digit_match)

    return ProtectionTask(
        name="arithmetic",
        rows=rows,
        epochs=size.sums_epochs,
        general=general,
        target=measure,
        choice=lambda model: completion_score(model, tokenizer, choice).loss,
        kept=kept,
        source={code: train[code] for code in test},
        batch_size=size.sums_batch_size,
        size=size,
        digest=_digest(rows(0).to_list(), held_out, choice, general, kept),
    )


def _sums(
    count: int, size: ProtectionSize, *, seed: int = 0, exclude: Sequence[dict[str, str]] = ()
) -> list[dict[str, str]]:
    return arithmetic_rows(count, operations=("+", "-"), largest=size.largest, seed=seed, exclude=exclude)


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
    chosen = {}
    for language in languages:
        blocks = _blocks(tokenizer, language, texts, block_size=block_size)
        chosen[language] = [blocks[position] for position in _positions(len(blocks), min(count, len(blocks)))]
    return _windows(tokenizer, chosen, block_size)


def _windows(tokenizer: Any, blocks: Mapping[str, list[list[int]]], block_size: int) -> ScoringTask:
    windows = {language: [Window(tuple(block), 1) for block in chosen] for language, chosen in blocks.items()}
    return ScoringTask(windows, start_token(tokenizer), {"block_size": block_size})


def _positions(length: int, count: int) -> list[int]:
    positions: list[int] = torch.linspace(0, length - 1, count).long().tolist()
    return positions


def _digest(*parts: Any) -> str:
    """Hex sha256 of rows, blocks and windows."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, ScoringTask):
            values: Any = {language: [window.ids for window in each] for language, each in part.windows.items()}
        else:
            values = part["input_ids"][:] if isinstance(part, Dataset) else part
        digest.update(json.dumps(values).encode())
    return digest.hexdigest()

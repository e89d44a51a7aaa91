"""Text to train further on, in blocks: as much real text as there is, else generated text, and never the same twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_up

import torch

from hf_langcore.data import pack_blocks, start_token, usable_block_size
from hf_langcore.data.mini import MINI_LANGUAGES, mini_corpora
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.evaluation import ScoringTask, prepare_scoring
from hf_langcore.recipes.bench.workbench import Bench

REAL, GENERATED, OWN_GENERATED = "real text", "generated text", "generated text of the bench"

# Generated texts of a bench are the first sentences; those of here come long after them, the held-out ones first.
_HELD_OUT_AT = 1_000_000
_HELD_OUT_SENTENCES = 2_000
_TRAIN_AT = 1_100_000
_SENTENCES_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class TrainingText:
    """Blocks of one language.

    Attributes:
        blocks: int64, (blocks, block_size); each begins with the start token.
        source: "real text", "generated text", or "generated text of the bench" where that has no other.
    """

    blocks: torch.Tensor
    source: str

    def __len__(self) -> int:
        return len(self.blocks)


def block_size_for(bench: Bench, block_size: int | None) -> int:
    """The block size that was asked for, else the bench's; at most the model's context."""
    return usable_block_size(bench.model, bench.settings.block_size if block_size is None else block_size)


def trained_language(bench: Bench, language: str | None) -> str:
    """The language that was asked for; else Chinese, as in the talk, where the core was looked for in it; else the first.

    Raises:
        InputError: There are no texts for it.
    """
    if language is None:
        return "zh" if "zh" in bench.core_languages else bench.core_languages[0]
    if language not in bench.texts.train:
        raise InputError(f"language={language!r} is to be trained on, and there are texts for {bench.languages}.")
    return language


def own_blocks(bench: Bench, language: str, *, block_size: int) -> TrainingText:
    """All of the bench's training text in one language.

    Raises:
        CorpusError: It does not fill one block.
    """
    start = start_token(bench.tokenizer)
    blocks = pack_blocks(language, bench.texts.train[language], bench.tokenizer, start=start, block_size=block_size)
    if blocks.shape[1] < block_size:
        raise CorpusError(
            f"{language!r}: the training text has {blocks.shape[1] - 1} tokens and does not fill one block of {block_size}. "
            "Give more text, or a smaller block_size."
        )
    return TrainingText(blocks, OWN_GENERATED if bench.texts.is_generated else REAL)


def generated_blocks(bench: Bench, language: str, blocks: int, *, block_size: int) -> TrainingText:
    """Text of the built-in generator, which the bench's texts and `held_out_generated` have no sentence of.

    Raises:
        CorpusError: The generator does not speak the language.
    """
    _require_generator(language, blocks)
    start = start_token(bench.tokenizer)
    documents = _documents(language)
    made = pack_blocks(
        language, documents, bench.tokenizer, start=start, block_size=block_size, max_tokens=blocks * block_size
    )
    return TrainingText(made, GENERATED)


def enough_blocks(bench: Bench, language: str, blocks: int, *, block_size: int) -> TrainingText:
    """So many blocks: of the bench's text where that is enough, else all of them generated.

    Raises:
        CorpusError: The text is not enough, and the generator does not speak the language.
    """
    own = own_blocks(bench, language, block_size=block_size)
    if len(own) >= blocks:
        return TrainingText(own.blocks[:blocks], own.source)
    return generated_blocks(bench, language, blocks, block_size=block_size)


def held_out_generated(bench: Bench, language: str) -> ScoringTask:
    """Generated sentences that nothing is trained on, to measure on as the bench measures."""
    _require_generator(language, 1)
    texts = mini_corpora([language], sentences=_HELD_OUT_SENTENCES, start=_HELD_OUT_AT)
    settings = bench.settings
    return prepare_scoring(
        bench.model, bench.tokenizer, texts, block_size=settings.block_size, max_tokens=settings.test_tokens
    )


def can_generate(language: str) -> bool:
    """Whether the generator speaks the language."""
    return language in MINI_LANGUAGES


def _documents(language: str) -> Iterator[str]:
    for start in count_up(_TRAIN_AT, _SENTENCES_AT_ONCE):
        yield from mini_corpora([language], sentences=_SENTENCES_AT_ONCE, start=start)[language]


def _require_generator(language: str, blocks: int) -> None:
    if not can_generate(language):
        raise CorpusError(
            f"{language!r}: {blocks:,} blocks are asked for, the text has fewer, and no text is repeated. The built-in "
            f"generator could make more in {', '.join(MINI_LANGUAGES)} only: ask for fewer samples, or give more text."
        )

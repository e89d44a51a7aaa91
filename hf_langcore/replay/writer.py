"""Writes the rows of one language after the other: batches, attempts, what is dropped."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hf_langcore.data.blocks import text_config
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.replay.prompts import Turn, answer_prompt, stop_ids_of
from hf_langcore.replay.quality import flaw_of
from hf_langcore.replay.sampling import continuations, random_numbers
from hf_langcore.replay.settings import ReplaySettings
from hf_langcore.replay.store import ReplayStore, Written

_CUT = "\N{REPLACEMENT CHARACTER}"  # what is left of a character whose last bytes did not come any more
_MOST_ATTEMPTS = 4  # times as many as rows are wanted, before a language is given up

logger = logging.getLogger(__name__)


@dataclass
class Writer:
    """Writes the rows of one language after the other."""

    model: nn.Module
    tokenizer: Any
    settings: ReplaySettings
    turn: Turn | None
    batch_size: int
    new_tokens: int = 0
    generated: int = 0
    accepted: dict[str, list[Written]] = field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def fit_to(self, longest: list[int]) -> None:
        """Let every text have as many tokens as can follow the longest prompt.

        Raises:
            InputError: None can.
        """
        self.new_tokens = self._room(longest)
        if self.new_tokens < 1:
            raise InputError(
                f"A prompt of {len(longest)} tokens fills the model's context, so that nothing can be written after it. "
                "Use fewer seed_tokens."
            )

    def write(self, language: str, prompts: list[list[int]], count: int, store: ReplayStore, bar: Any) -> None:
        """Attempts in their order, until so many are of use."""
        written = store.load()
        accepted: list[Written] = []
        flaws: Counter[str] = Counter()
        for number in range(_MOST_ATTEMPTS * count):
            if len(accepted) == count:
                break
            if number not in written:
                ahead = range(number, number + min(self.batch_size, count - len(accepted)))
                batch = self._batch(language, prompts, [later for later in ahead if later not in written])
                store.save(batch)
                written |= batch
            entry = written[number]
            if entry.flaw is None:
                accepted.append(entry)
                bar.update()
            else:
                flaws[entry.flaw] += 1
        self.accepted[language], self.dropped[language] = accepted, dict(flaws)
        _report(language, len(accepted), count, flaws)

    def _batch(self, language: str, prompts: list[list[int]], numbers: list[int]) -> dict[int, Written]:
        try:
            batch = self._attempts(language, prompts, numbers)
        except torch.OutOfMemoryError:
            if len(numbers) == 1:
                raise
            self.batch_size = len(numbers) // 2
            logger.warning("The GPU's memory does not hold %d rows at once; trying %d.", len(numbers), self.batch_size)
            torch.cuda.empty_cache()
            return self._batch(language, prompts, numbers[: self.batch_size])
        self.generated += len(numbers)
        return batch

    def _attempts(self, language: str, prompts: list[list[int]], numbers: list[int]) -> dict[int, Written]:
        begun = [prompts[number % len(prompts)] for number in numbers]
        first = self._continue(language, begun, numbers, stage=0)
        openings = len(self.turn.opening) if self.turn is not None else 0
        texts = [self._decoded([*prompt[openings:], *tokens]) for prompt, tokens in zip(begun, first, strict=True)]
        flaws: list[str | None] = [flaw_of(text, tokens) for text, tokens in zip(texts, first, strict=True)]
        if self.turn is None:
            return {
                number: Written(text, None, flaw) for number, text, flaw in zip(numbers, texts, flaws, strict=True)
            }
        return self._answers(language, numbers, texts, flaws)

    def _answers(
        self, language: str, numbers: list[int], instructions: list[str], flaws: list[str | None]
    ) -> dict[int, Written]:
        """Conversations of the instructions that are of use."""
        written = {
            number: Written("", text, flaw) for number, text, flaw in zip(numbers, instructions, flaws, strict=True)
        }
        asked = {
            number: answer_prompt(self.tokenizer, instruction)
            for number, instruction, flaw in zip(numbers, instructions, flaws, strict=True)
            if flaw is None
        }
        for number in [number for number, prompt in asked.items() if self._room(prompt) < 1]:
            written[number] = Written("", written[number].instruction, "too long")
            del asked[number]
        for group in self._of_equal_room(asked):
            answers = self._continue(language, [asked[number] for number in group], group, stage=1)
            for number, tokens in zip(group, answers, strict=True):
                text = self._decoded(tokens)
                written[number] = Written(text, written[number].instruction, flaw_of(text, tokens))
        return written

    def _of_equal_room(self, asked: Mapping[int, list[int]]) -> list[list[int]]:
        """All that leave room for a full answer together, and each of the others alone: none shortens another's."""
        full = [number for number, prompt in asked.items() if self._room(prompt) == self.settings.max_new_tokens]
        return [group for group in (full, *([number] for number in asked if number not in full)) if group]

    def _continue(self, language: str, prompts: list[list[int]], numbers: list[int], *, stage: int) -> list[list[int]]:
        room = self.new_tokens if stage == 0 else self._room(max(prompts, key=len))
        of_language = int.from_bytes(hashlib.sha256(language.encode()).digest()[:8], "big")
        stop_ids = stop_ids_of(self.model, self.tokenizer, self.turn)
        pad_id = getattr(self.tokenizer, "pad_token_id", None)
        return continuations(
            self.model,
            prompts,
            [random_numbers([self.settings.seed, of_language, stage, number], room) for number in numbers],
            self.settings,
            stop_ids=stop_ids,
            pad_id=pad_id if pad_id is not None else next(iter(stop_ids), 0),
        )

    def _room(self, prompt: list[int]) -> int:
        """How many tokens may come after a prompt: as many as are wanted, or as the context holds."""
        context = getattr(text_config(self.model), "max_position_embeddings", None)
        wanted = self.settings.max_new_tokens
        return min(wanted, context - len(prompt)) if isinstance(context, int) else wanted

    def _decoded(self, tokens: list[int]) -> str:
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.strip().rstrip(_CUT)


def _report(language: str, accepted: int, wanted: int, flaws: Mapping[str, int]) -> None:
    dropped = ", ".join(f"{count} {flaw}" for flaw, count in flaws.items()) or "none"
    if wanted and not accepted:
        raise CorpusError(
            f"Of {sum(flaws.values())} texts that the model wrote for {language!r} none is of use (dropped: {dropped}). "
            "Let it begin with texts of the language, or change temperature and top_p."
        )
    if accepted < wanted:
        logger.warning(
            "Self-replay wrote %d of %d rows for %s; of the others too many were dropped: %s.",
            accepted,
            wanted,
            language,
            dropped,
        )
    elif flaws:
        logger.info("Self-replay: %d rows for %s; dropped: %s.", accepted, language, dropped)

"""Finished batches on disk, so that an interrupted generation goes on and a finished one is not repeated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_langcore.files import replace_json
from hf_langcore.replay.settings import ReplaySettings

_FORMAT = 1  # counts up when the same settings give other texts


@dataclass(frozen=True)
class Written:
    """What came of one attempt.

    Attributes:
        text: The text, or of a conversation the answer.
        instruction: Of a conversation what the user says; None of a plain text.
        flaw: Why it is of no use; None where it is.
    """

    text: str
    instruction: str | None
    flaw: str | None


class ReplayStore:
    """The attempts of one language, in files named by everything that they depend on.

    Args:
        folder: Where the files lie; None keeps nothing.
        key: What the texts depend on: model, tokenizer, prompts, settings.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder = None if folder is None else folder / f"replay-{key}"

    def load(self) -> dict[int, Written]:
        """The attempts that are there, by their number. A file that cannot be read counts as missing."""
        found: dict[int, Written] = {}
        for path in sorted(self._folder.glob("batch-*.json")) if self._folder is not None else []:
            try:
                entries = json.loads(path.read_text(encoding="utf-8"))
                found |= {int(number): Written(**entry) for number, entry in entries.items()}
            except (OSError, ValueError, TypeError, AttributeError):
                continue
        return found

    def save(self, batch: Mapping[int, Written]) -> None:
        """Keep a finished batch."""
        if self._folder is not None:
            name = f"batch-{min(batch):08d}-{max(batch):08d}.json"
            replace_json(self._folder / name, {str(number): asdict(entry) for number, entry in batch.items()})


def key_of(*, model: str, tokenizer: Any, language: str, prompts: list[list[int]], settings: ReplaySettings) -> str:
    """A name for everything that the texts of a language depend on.

    Args:
        model: Digest of the weights.
        tokenizer: The tokenizer, whose vocabulary and template count.
        language: The language, which is part of the seed.
        prompts: Token ids of the prompts.
        settings: Lengths, temperature, nucleus, seed.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if hasattr(backend, "to_str") else type(tokenizer).__name__
    parts = [
        _FORMAT,
        model,
        vocabulary,
        getattr(tokenizer, "chat_template", None),
        language,
        prompts,
        asdict(settings),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

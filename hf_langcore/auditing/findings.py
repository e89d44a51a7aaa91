"""What a check says about a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from hf_langcore.auditing.parts import View

KINDS: dict[str, tuple[str, ...]] = {
    "repetition": ("repeated_run", "repeated_phrases"),
    "non_words": ("random_characters", "encoded_data", "symbols"),
    "language": ("wrong_language",),
    "encoding": ("mojibake", "replacement_character", "control_character", "markup", "escapes"),
    "template": ("malformed", "empty", "foreign_marker", "role_label", "refused", "dropped_message"),
    "duplicates": ("exact_duplicate", "near_duplicate"),
    "perplexity": ("high_perplexity", "low_perplexity"),
}
"""Check -> the kinds of findings that it makes."""

CHECKS = tuple(KINDS)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a row.

    Attributes:
        row: Position of the row in the data set, from 0.
        check: Which check found it; one of `CHECKS`.
        kind: What it is; see `KINDS`.
        part: Where in the row: "text", "completion", "messages[2]"; "row" for all of it.
        detail: What was seen, in words.
        excerpt: The offending piece.
        score: How bad it is within its kind, larger is worse.
    """

    row: int
    check: str
    kind: str
    part: str
    detail: str
    excerpt: str
    score: float


class Check(ABC):
    """One check: it sees every row once, in order, and may keep what it needs to judge at the end."""

    @abstractmethod
    def examine(self, view: View) -> Iterable[Finding]:
        """What can be said about a row by itself, or by the rows before it."""

    def finish(self) -> Iterable[Finding]:
        """What can be said only when all rows have been seen."""
        return ()

"""Runs of repeated words or phrases, in any script.

Periods are looked for in characters, not words: a text that equals itself when shifted by p characters repeats a
piece of p characters, whether or not the script writes spaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt, prose
from hf_langcore.auditing.units import is_dense, units

_LONGEST_PERIOD = 160
_SENTENCE_REPEATS = 3
_SENTENCE_CHARACTERS = 48
_PHRASE = 4
_FEWEST_UNITS = 40
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Run:
    """A piece that follows itself: `text[start : start + length]` has period `period`, all in characters."""

    start: int
    length: int
    period: int

    @property
    def repeats(self) -> float:
        """How many times the piece stands there."""
        return self.length / self.period


class RepetitionCheck(Check):
    """Finds pieces that follow themselves, and texts that mostly say again what they said before.

    Args:
        repeats: A piece has to stand so many times in a row, in at least 20 characters (10 in scripts such as
            Chinese, whose words are short); whole sentences, 48 characters in all, count from three times on.
        repeated_share: Share of a text's phrases of four words that it has said before, in texts of at least 40
            words.
    """

    def __init__(self, *, repeats: int, repeated_share: float) -> None:
        self.repeats = repeats
        self.repeated_share = repeated_share

    def examine(self, view: View) -> Iterable[Finding]:
        """The longest run of the row, or the share of what it says again."""
        for part in view.parts:
            text = _SPACE.sub(" ", prose(part.text))
            run = self._worst(text)
            if run is not None:
                yield _run_finding(view.number, part, text, run)
                return
            share, example = repeated_phrases(text)
            if share >= self.repeated_share:
                detail = f"{share:.0%} of its phrases stand earlier in the same text"
                yield Finding(view.number, "repetition", "repeated_phrases", part.name, detail, example, share)
                return

    def _worst(self, text: str) -> Run | None:
        found = [
            run for run in periodic_runs(text, repeats=min(self.repeats, _SENTENCE_REPEATS)) if self._counts(text, run)
        ]
        return max(found, key=lambda run: run.length, default=None)

    def _counts(self, text: str, run: Run) -> bool:
        piece = text[run.start : run.start + run.period]
        if not any(character.isalpha() for character in piece):
            return False  # rulers, tables, numbers; long ones are the business of the symbol check
        dense = is_dense(piece)
        weight = 2 if dense else 1
        if run.repeats >= self.repeats and run.length * weight >= 4 * self.repeats:
            return True
        return run.repeats >= _SENTENCE_REPEATS and run.length * weight >= _SENTENCE_CHARACTERS * _SENTENCE_REPEATS


def periodic_runs(text: str, *, repeats: int) -> Iterator[Run]:
    """The longest run of each period, where a piece stands at least `repeats` times in a row."""
    codes = np.frombuffer(text.lower().encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    for period in range(1, min(_LONGEST_PERIOD, len(codes) // max(repeats, 1)) + 1):
        start, length = _longest_true(codes[period:] == codes[:-period])
        if length >= (repeats - 1) * period and length > 0:
            yield Run(start, length + period, period)


def repeated_phrases(text: str) -> tuple[float, str]:
    """Share of the phrases of four words that stand earlier in the text, and the most frequent one."""
    words = units(text)
    if len(words) < _FEWEST_UNITS:
        return 0.0, ""
    phrases = Counter(tuple(words[index : index + _PHRASE]) for index in range(len(words) - _PHRASE + 1))
    return 1 - len(phrases) / phrases.total(), " ".join(phrases.most_common(1)[0][0])


def _longest_true(same: NDArray[np.bool_]) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    if not edges.size:
        return 0, 0
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best])


def _run_finding(number: int, part: Part, text: str, run: Run) -> Finding:
    piece = text[run.start : run.start + run.period].strip()
    detail = f"{piece[:40]!r} stands {run.repeats:.0f} times in a row"
    shown = excerpt(text, run.start, run.start + run.length)
    return Finding(number, "repetition", "repeated_run", part.name, detail, shown, float(run.length))

"""Rows in a language that the data set is not supposed to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt, prose
from hf_langcore.language_id import canonical, likely_languages, require_known, windows

_WIDTH = 300
_WRONG_SHARE = 0.5

Votes = Counter[tuple[str, ...]]
"""The languages that a window may be in, likeliest first -> characters in such windows."""


class LanguageCheck(Check):
    """Finds texts of which at least half is in none of the expected languages.

    Expected are the languages that are declared, or else those which the data set has plenty of. A window of 300
    characters counts as wrong where every expected language is `ratio` times less likely than the likeliest one.

    Args:
        languages: Codes of the expected languages; None infers them.
        column: Column that declares each row's language.
        ratio: How many times likelier the wrong language has to be.
        minority: An inferred language has at least this share of the largest one's rows.
    """

    def __init__(self, languages: Sequence[str] | None, *, column: str | None, ratio: float, minority: float) -> None:
        self.declared = None if languages is None else require_known(languages)
        self.column = column
        self.ratio = ratio
        self.minority = minority
        self.counts: Counter[str] = Counter()
        self.of_row: list[str | None] = []
        self._doubtful: list[tuple[int, Part, Votes, frozenset[str] | None]] = []

    def examine(self, view: View) -> Iterable[Finding]:
        """Note what each text is in; judged at the end, when the expected languages are known."""
        found = [(part, self._votes(part.text)) for part in view.parts]
        self._note(Counter({key: count for _, votes in found for key, count in votes.items()}))
        own = self._own(view)
        expected = own or self.declared
        for part, votes in found:
            if votes and (expected is None or _wrong_share(votes, expected) >= _WRONG_SHARE):
                shown = Part(part.name, excerpt(prose(part.text)), part.role)
                self._doubtful.append((view.number, shown, votes, own))
        return ()

    def finish(self) -> Iterator[Finding]:
        """The findings that need all rows."""
        expected = self.expected()
        seen: set[int] = set()
        for number, part, votes, own in self._doubtful:
            wanted = own or expected
            share = _wrong_share(votes, wanted)
            if number in seen or not wanted or share < _WRONG_SHARE:
                continue
            seen.add(number)
            names = "/".join(votes.most_common(1)[0][0])
            detail = f"looks like {names}; expected {', '.join(sorted(wanted))}"
            yield Finding(number, "language", "wrong_language", part.name, detail, part.text, share)

    def expected(self) -> frozenset[str]:
        """The expected languages; inferred ones are known once all rows have been seen."""
        if self.declared is not None:
            return self.declared
        most = max(self.counts.values(), default=0)
        least = max(self.minority * most, min(most, 2))
        return frozenset(code for code, count in self.counts.items() if count >= least)

    def _own(self, view: View) -> frozenset[str] | None:
        declared = view.row.get(self.column) if self.column else None
        return frozenset([canonical(declared)]) if isinstance(declared, str) and declared.strip() else None

    def _note(self, votes: Votes) -> None:
        """Count the row's language where it can be told."""
        main = _main(votes)
        self.of_row.append(main)
        if main is not None:
            self.counts[main] += 1

    def _votes(self, text: str) -> Votes:
        votes: Votes = Counter()
        for _, piece in windows(" ".join(prose(text).split()), _WIDTH):
            likely = likely_languages(piece, ratio=self.ratio)
            if likely:
                votes[likely] += len(piece)
        return votes


def _main(votes: Votes) -> str | None:
    """The likeliest language of most of a row."""
    first: Counter[str] = Counter()
    for key, count in votes.items():
        first[key[0]] += count
    return first.most_common(1)[0][0] if first else None


def _wrong_share(votes: Votes, expected: frozenset[str]) -> float:
    total = sum(votes.values())
    return sum(count for key, count in votes.items() if expected.isdisjoint(key)) / total if total else 0.0

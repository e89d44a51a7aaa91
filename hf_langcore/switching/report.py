"""Shares of generations that leave their language, with intervals, and where each of them does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.files import json_text
from hf_langcore.printing import printed
from hf_langcore.switching.judging import Judgement

FORMAT_VERSION = 1

_Z = 1.959964  # of a two-sided 95 % interval
_EXAMPLES = 3
_BEFORE, _AFTER = 40, 60  # characters around a switch that an example shows


@dataclass(frozen=True, slots=True)
class Rate:
    """A share.

    Attributes:
        value: The share; NaN of nothing.
        low: Lower end of its 95 % Wilson interval.
        high: Upper end.
        count: What it is a share of.
    """

    value: float
    low: float
    high: float
    count: int


def wilson(hits: int, count: int) -> Rate:
    """A share with its 95 % interval (E. B. Wilson 1927), which is sound for few cases and near 0 and 1."""
    if count == 0:
        return Rate(math.nan, 0.0, 1.0, 0)
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    # At the ends the interval ends exactly there; rounding must not say otherwise.
    return Rate(share, middle - half if hits else 0.0, middle + half if hits < count else 1.0, count)


@dataclass(frozen=True, slots=True)
class Generation:
    """A text and what was found.

    Attributes:
        language: Of its prompt.
        prompt: The prompt, or "" where it is not known.
        text: What was written after it.
        judgement: Whether it stayed in the language.
    """

    language: str
    prompt: str
    text: str
    judgement: Judgement

    def excerpt(self) -> str:
        """The text around the place where it leaves, which is marked by a bar; its beginning if it does not leave."""
        place = self.judgement.place
        if place is None:
            return " ".join(self.text[: _BEFORE + _AFTER].split())
        before, after = self.text[max(0, place - _BEFORE) : place], self.text[place : place + _AFTER]
        return f"{'…' if place > _BEFORE else ''}{' '.join(before.split())} | {' '.join(after.split())}".strip()


@dataclass(frozen=True)
class SwitchingReport:
    """All generations and what follows from them.

    Attributes:
        generations: In the order of the prompts.
        settings: Sampling, criteria, model and moment.
    """

    generations: tuple[Generation, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """Codes of the prompts' languages, in order."""
        return list(dict.fromkeys(one.language for one in self.generations))

    def of(self, language: str | None = None, outcome: str | None = None) -> list[Generation]:
        """The generations after prompts in a language, those with an outcome, or all."""
        return [
            one
            for one in self.generations
            if language in {None, one.language} and outcome in {None, one.judgement.outcome}
        ]

    def rate(self, language: str | None = None, *, by: str | None = None) -> Rate:
        """Share that leaves the prompt's language, out of those of which it can be told.

        Args:
            language: Of the prompts; all if None.
            by: Only those that were seen by "script" or by "language".

        Raises:
            InputError: There is no prompt in the language.
        """
        if language is not None and language not in self.languages:
            raise InputError(f"There are no prompts in {language!r}; there are some in {self.languages}.")
        left = [one for one in self.of(language, "left") if by in {None, one.judgement.by}]
        return wilson(len(left), len(self.of(language, "left")) + len(self.of(language, "stayed")))

    def outcomes(self, language: str | None = None) -> dict[str, int]:
        """How many stayed, left, were too short to tell or in no language."""
        counts = Counter(one.judgement.outcome for one in self.of(language))
        return {name: counts[name] for name in ("stayed", "left", "too short", "no language")}

    def confusion(self) -> dict[str, dict[str, int]]:
        """Prompt's language -> found language or script -> generations; those that cannot be told are left out."""
        table = {language: Counter[str]() for language in self.languages}
        for one in self.generations:
            if one.judgement.found is not None:
                table[one.language][one.judgement.found] += 1
        return {language: dict(row.most_common()) for language, row in table.items()}

    def examples(self, language: str | None = None, limit: int = _EXAMPLES) -> list[Generation]:
        """Generations that leave their language, those that do so most first."""
        return sorted(self.of(language, "left"), key=lambda one: -one.judgement.share)[:limit]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        rates = {code: _rate_values(self.rate(code)) for code in self.languages}
        return {
            "format_version": FORMAT_VERSION,
            "rate": _rate_values(self.rate()),
            "rates": rates,
            "outcomes": {code: self.outcomes(code) for code in self.languages},
            "confusion": self.confusion(),
            "generations": [asdict(one) for one in self.generations],
            "settings": dict(self.settings),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path, indent=1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SwitchingReport:
        """Read what `to_dict` gave.

        Raises:
            InputError: It is no such report.
        """
        try:
            if values["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {values['format_version']!r}")  # noqa: TRY301
            listed = [
                Generation(**{**one, "judgement": Judgement(**one["judgement"])}) for one in values["generations"]
            ]
            return cls(tuple(listed), dict(values["settings"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is no report of code-switching ({type(error).__name__}: {error}). Measure again."
            ) from error

    def to_markdown(self) -> str:
        """The rates as a table, then examples."""
        lines = ["| " + " | ".join(_COLUMNS) + " |", "| --- |" + " ---: |" * (len(_COLUMNS) - 2) + " --- |"]
        lines += ["| " + " | ".join(row) + " |" for row in self._rows()]
        shown = [
            f"- {one.language} -> {one.judgement.found}: {_plain(one.excerpt())}" for one in self.examples(limit=10)
        ]
        return "\n".join([*lines, *(["", *shown] if shown else [])]) + "\n"

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table and examples that rich prints."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="Code-switching of generations", header_style="bold", title_justify="left")
        for name in _COLUMNS:
            table.add_column(name, justify="left" if name in {_COLUMNS[0], _COLUMNS[-1]} else "right")
        for row in self._rows():
            table.add_row(*row)
        shown = [Text(f"{one.language} -> {one.judgement.found}: {one.excerpt()}") for one in self.examples()]
        return Group(table, *shown)

    def _rows(self) -> list[list[str]]:
        rows = []
        for code in (*self.languages, None):
            rate, counts = self.rate(code), self.outcomes(code)
            found = self.confusion()[code] if code is not None else {}
            others = ", ".join(f"{name} {count}" for name, count in found.items() if name != code)
            share = f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate.count else "-"
            untold = [str(counts[name]) for name in ("too short", "no language")]
            rows.append([code or "all", share, f"{counts['left']} of {rate.count}", *untold, others])
        return rows


_COLUMNS = ("prompts in", "leave their language", "texts", "too short", "no language", "for")


def _rate_values(rate: Rate) -> dict[str, Any]:
    return {**asdict(rate), "value": rate.value if rate.count else None}


def _plain(text: str) -> str:
    """One line of Markdown without markup."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|" else c for c in text)

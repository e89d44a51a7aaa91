"""The tables and curves of the experiment on transfer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from hf_langcore.evaluation.language_score import LanguageScore, exp_or_inf
from hf_langcore.report.parts import Cell, Curves, Part, Spread, Table

_SEEDS = "Mean, smallest and largest over the seeds."


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        new_tokens: Tokens that are added; 0 keeps the old vocabulary.
        initialisation: What their rows begin with; empty where there are none.
        is_frozen: The core is frozen.
        is_mixed: Other languages are mixed in.
        is_side: It is there for one comparison and stops early.
    """

    new_tokens: int
    initialisation: str
    is_frozen: bool = False
    is_mixed: bool = False
    is_side: bool = False

    @property
    def vocabulary(self) -> str:
        """Its vocabulary in words."""
        if not self.new_tokens:
            return "old vocabulary"
        return f"{self.new_tokens:,} new tokens ({self.initialisation.replace('_', ' ')})"

    @property
    def protection(self) -> str:
        """What keeps the other languages, in words."""
        kept = [word for word, is_there in {"frozen core": self.is_frozen, "mixed": self.is_mixed}.items() if is_there]
        return " and ".join(kept) or "all trained"

    @property
    def words(self) -> str:
        """Both."""
        return f"{self.vocabulary}, {self.protection}"

    @property
    def is_plain(self) -> bool:
        """Nothing keeps the other languages."""
        return not self.is_frozen and not self.is_mixed

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


Runs: TypeAlias = "Mapping[Arm, Sequence[Mapping[str, Any]]]"
"""Arm -> what each seed gave: `scores` by number of rows and language, `tokens`, `core`, `core_changed`."""

Scores: TypeAlias = "Mapping[str, LanguageScore]"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the tables are about.

    Attributes:
        language: The language that is trained on.
        reference: The language with a column of its own.
        counts: Numbers of rows that were measured after, from 0.
        available: Number of rows that the text has.
    """

    language: str
    reference: str
    counts: tuple[int, ...]
    available: int

    def rows(self, count: int) -> str:
        """A number of rows as a row title."""
        return f"{count:,} (all)" if count == self.available else f"{count:,}"


Figure: TypeAlias = "Callable[[LanguageScore], float]"


def parts(runs: Runs, vocabularies: Mapping[int, Mapping[str, Any]], shown: Shown) -> tuple[Part, ...]:
    """All tables and curves; those that nothing was measured for are left out."""
    old = [arm for arm in runs if not arm.new_tokens]
    inits = [arm for arm in runs if arm.new_tokens and arm.is_plain]
    found: list[Part] = [growth_table(runs[arm], shown) for arm in old if arm.is_plain]
    found += [length_table(vocabularies, shown)] if vocabularies else []
    found.append(bits_table(runs, shown))
    found += _curves(runs, shown)
    found += [bits_table({arm: runs[arm] for arm in inits}, shown, name="initialisations")] if len(inits) > 1 else []
    found += [core_table(runs), language_table(runs, shown)]
    return tuple(found)


def growth_table(runs: Sequence[Mapping[str, Any]], shown: Shown) -> Table:
    """The table of Zhao et al.: perplexity by number of rows."""
    groups = _groups(runs, shown)
    rows = [
        (
            shown.rows(count),
            *(_over_seeds([_perplexity(_scores(run, count), codes) for run in runs]) for codes in groups.values()),
        )
        for count in shown.counts
    ]
    return Table(
        name="growth",
        title=f"Perplexity by rows of text in {shown.language}, everything trained, old vocabulary",
        columns=("rows", *groups),
        rows=tuple(rows),
        note=f"{_SEEDS} Others: the geometric mean. Zhao et al., LLaMA-7B, Chinese and English: 10.2 and 14.7 before, 8.7 and 15.6 after 10 "
        "thousand texts, 6.6 and 29.6 after 100 thousand, 5.2 and 198.8 after a million.",
        log_bars=tuple(groups)[:2],
    )


def length_table(vocabularies: Mapping[int, Mapping[str, Any]], shown: Shown) -> Table:
    """Tokens per byte in every language, before and after each extension."""
    one = next(iter(vocabularies.values()))
    columns = ("language", "old vocabulary", *(f"{size:,} new tokens" for size in vocabularies))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (code, figure, *(each["after"][code] for each in vocabularies.values()))
        for code, figure in one["before"].items()
    )
    examples = " ".join(list(vocabularies.values())[-1]["tokens"][:30])
    return Table(
        name="lengths",
        title=f"Tokens per byte of test text, tokens learned from text in {shown.language}",
        columns=columns,
        rows=rows,
        note=f"Text in which no new token stands is cut as before. The first new tokens that are whole characters: {examples}",
    )


def bits_table(runs: Runs, shown: Shown, *, name: str = "bits") -> Table:
    """Bits per byte of every arm, before training and after each number of rows, for each group of languages."""
    groups = _groups(next(iter(runs.values())), shown)
    columns = [(group, codes, count) for group, codes in groups.items() for count in shown.counts]
    rows = [
        (arm.words, *(_bits_over_seeds(found, count, codes) for _, codes, count in columns))
        for arm, found in runs.items()
    ]
    titles = {
        "bits": "Bits per byte, all ways of training",
        "initialisations": "Bits per byte by initialisation, everything trained",
    }
    return Table(
        name=name,
        title=titles[name],
        columns=("vocabulary and training", *(f"{group}: {shown.rows(count)}" for group, _, count in columns)),
        rows=tuple(rows),
        note=f"After each number of rows; lower is better, and all vocabularies are measured on the same bytes. {_SEEDS}",
    )


def core_table(runs: Runs) -> Table:
    """Whether what was frozen stayed, and how much was trained on."""
    rows = [
        (
            arm.words,
            _over_seeds([run["tokens"] for run in found]),
            found[0]["core"],
            max(run["core_changed"] for run in found),
        )
        for arm, found in runs.items()
    ]
    return Table(
        name="core",
        title="Tokens trained on, and core weights whose bits changed",
        columns=("vocabulary and training", "tokens trained on", "core weights", "changed, at most"),
        rows=tuple(rows),
    )


def language_table(runs: Runs, shown: Shown) -> Table:
    """Bits per byte in every language after all rows; arms that stop early are left out."""
    last = shown.counts[-1]
    chosen = {arm: found for arm, found in runs.items() if str(last) in found[0]["scores"]}
    base = _scores(next(iter(chosen.values()))[0], 0)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            code,
            _bits(base, [code]),
            *(_bits_over_seeds(found, last, [code]) for found in chosen.values()),
        )
        for code in base
    )
    return Table(
        name="languages",
        title=f"Bits per byte in every language after {shown.rows(last)} rows of {shown.language}",
        columns=("language", "before", *(arm.words for arm in chosen)),
        rows=rows,
        note=f"Before: the vocabulary of the next column, untrained. {_SEEDS}",
    )


def _curves(runs: Runs, shown: Shown) -> list[Curves]:
    groups = _groups(next(iter(runs.values())), shown)
    return [_curve(f"curve_{place}", group, codes, runs, shown) for place, (group, codes) in enumerate(groups.items())]


def _curve(name: str, group: str, codes: Sequence[str], runs: Runs, shown: Shown) -> Curves:
    cells = {
        arm: [_bits_over_seeds(found, count, codes) for count in shown.counts]
        for arm, found in runs.items()
        if not arm.is_side
    }
    return Curves(
        name=name,
        title=f"{group}: bits per byte by rows of {shown.language}",
        x_label=f"rows of {shown.language}",
        y_label="bits per byte",
        x=tuple(map(float, shown.counts)),
        lines={arm.words: tuple(_middle(cell) for cell in line) for arm, line in cells.items()},
        x_scale="symlog",
        bands={
            arm.words: (tuple(cell.low for cell in spreads), tuple(cell.high for cell in spreads))
            for arm, line in cells.items()
            if len(spreads := [cell for cell in line if isinstance(cell, Spread)]) == len(line)
        },
    )


def _groups(runs: Sequence[Mapping[str, Any]], shown: Shown) -> dict[str, list[str]]:
    """Title -> languages of a column."""
    rest = [code for code in runs[0]["scores"]["0"] if code not in (shown.language, shown.reference)]
    groups = {shown.language: [shown.language], shown.reference: [shown.reference]}
    return {**groups, "others": rest} if rest else groups


def _scores(run: Mapping[str, Any], count: int) -> Scores:
    return {code: LanguageScore.from_dict(one) for code, one in run["scores"][str(count)].items()}


def _perplexity(scores: Scores, codes: Sequence[str]) -> float:
    return exp_or_inf(_mean([scores[code].nll for code in codes]))


def _bits(scores: Scores, codes: Sequence[str]) -> float:
    """Mean over the languages."""
    return _mean([math.nan if (bits := scores[code].bits_per_byte) is None else bits for code in codes])


def _bits_over_seeds(runs: Sequence[Mapping[str, Any]], count: int, codes: Sequence[str]) -> Cell:
    """None where nothing was measured after so many rows."""
    if str(count) not in runs[0]["scores"]:
        return None
    return _over_seeds([_bits(_scores(run, count), codes) for run in runs])


def _middle(cell: Cell) -> float | None:
    if isinstance(cell, Spread):
        return cell.value
    return cell if isinstance(cell, float) else None


def _mean(figures: Iterable[float]) -> float:
    values = list(figures)
    return sum(values) / len(values)


def _over_seeds(figures: Sequence[float]) -> Cell:
    if len(figures) == 1:
        return figures[0]
    return Spread(_mean(figures), min(figures), max(figures))

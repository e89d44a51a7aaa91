"""Code-switching rates as tables, curves, matrices and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hf_langcore.report.parts import Cell, Curves, Matrix, Spread, Table, Texts
from hf_langcore.switching import Rate, SwitchingReport
from hf_langcore.switching.report import wilson

States = Mapping[str, SwitchingReport]

_MOST_EXAMPLES = 3
_SHOWN = 240


def rate_table(states: States) -> Table:
    """Prompt languages by states of the model."""
    languages = next(iter(states.values())).languages
    rows: list[tuple[Cell, ...]] = [
        (code, *(_percent(report.rate(code)) for report in states.values())) for code in languages
    ]
    rows.append(("all", *(_percent(report.rate()) for report in states.values())))
    return Table(
        "rates",
        "Texts that leave the prompt's language, %",
        ("prompts in", *states),
        tuple(rows),
        note="Of the texts of which it can be told; 95 % Wilson intervals. Empty where no text can be told.",
        last_is_total=True,
    )


def outcome_table(states: States) -> Table:
    """What becomes of all texts, in every state."""
    rows = []
    for name, report in states.items():
        counts = report.outcomes()
        by = [report.rate(by=one).value if report.rate().count else None for one in ("script", "language")]
        shares = [None if share is None else 100 * share for share in by]
        rows.append((name, sum(counts.values()), *counts.values(), *shares))
    return Table(
        "outcomes",
        "What becomes of the texts",
        (
            "state",
            "texts",
            "stayed",
            "left",
            "too short to tell",
            "in no language",
            "left by script, %",
            "by language, %",
        ),
        tuple(rows),
    )


def training_curves(trained: Mapping[int, SwitchingReport], language: str) -> Curves:
    """Rates over the training, of prompts in the trained language and in the others."""
    lines: dict[str, tuple[float | None, ...]] = {}
    bands: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for name, is_own in ((f"prompts in {language}", True), ("prompts in other languages", False)):
        rates = [_rate_of(report, language, is_own=is_own) for report in trained.values()]
        lines[name] = tuple(100 * one.value if one.count else None for one in rates)
        bands[name] = (tuple(100 * one.low for one in rates), tuple(100 * one.high for one in rates))
    into = [_rate_into(report, language) for report in trained.values()]
    lines[f"of these, into {language}"] = tuple(100 * one.value if one.count else None for one in into)
    return Curves(
        "training",
        f"While the model is trained on {language}: texts that leave the prompt's language",
        "blocks of text seen",
        "share, %",
        x=tuple(map(float, trained)),
        lines=lines,
        bands=bands,
        note="Bands are 95 % Wilson intervals.",
    )


def confusion_matrix(name: str, report: SwitchingReport) -> Matrix:
    """Prompt language by found language, as shares of the texts that can be told."""
    confusion = report.confusion()
    every = {found for row in confusion.values() for found in row}
    columns = (*confusion, *sorted(every - set(confusion)))
    values = []
    for row in confusion.values():
        total = sum(row.values())
        values.append(tuple(row.get(found, 0) / total if total else None for found in columns))
    return Matrix(
        f"confusion_{name.replace(' ', '_')}",
        f"Language of the prompt and language of the text: {name}",
        rows=tuple(confusion),
        columns=columns,
        values=tuple(values),
        unit="share of texts",
        note="A row is the prompt's language; a text that leaves counts for the language that most of its foreign part is in.",
    )


def examples(states: States) -> Iterator[Texts]:
    """Prompts after which some state leaves the language, and what all states write."""
    shown: set[str] = set()
    for report in reversed(list(states.values())):
        for one in report.examples(limit=2 * _MOST_EXAMPLES):
            if one.prompt not in shown and len(shown) < _MOST_EXAMPLES:
                shown.add(one.prompt)
                yield _texts(states, one.language, one.prompt, len(shown))


def verdicts(states: States, language: str) -> list[str]:
    """What the intervals allow to be said."""
    base = states["unedited"].rate()
    texts = [f"Unedited, {_words(base)} of the texts leave the language of their prompt."]
    for name, report in states.items():
        rate = report.rate()
        if name == "unedited":
            continue
        untold = sum(report.outcomes()[one] for one in ("too short", "no language")) / len(report.generations)
        differs = "more" if rate.low > base.high else "fewer" if rate.high < base.low else "no clear difference"
        texts.append(f"**{name}**: {_words(rate)} ({differs}); {untold:.0%} of the texts cannot be told.")
    into = _rate_into(states[f"trained on {language}"], language)
    texts.append(
        f"After the training {_words(into)} of the texts after prompts in other languages end up in {language}."
    )
    return texts


def _rate_of(report: SwitchingReport, language: str, *, is_own: bool) -> Rate:
    told = [
        one
        for one in report.generations
        if (one.language == language) == is_own and one.judgement.outcome in {"stayed", "left"}
    ]
    return wilson(sum(one.judgement.outcome == "left" for one in told), len(told))


def _rate_into(report: SwitchingReport, language: str) -> Rate:
    told = [one for one in report.generations if one.language != language and one.judgement.found is not None]
    return wilson(sum(one.judgement.found == language for one in told), len(told))


def _texts(states: States, language: str, prompt: str, number: int) -> Texts:
    written, figures = {}, {}
    for name, report in states.items():
        one = next(one for one in report.of(language) if one.prompt == prompt)
        written[name] = one.text[:_SHOWN]
        figures[name] = f"{one.judgement.outcome}: {one.judgement.found or 'cannot be told'}"
    return Texts(f"example_{number}", f"After a prompt in {language}", prompt, written, figures)


def _percent(rate: Rate) -> Cell:
    return Spread(100 * rate.value, 100 * rate.low, 100 * rate.high) if rate.count else None


def _words(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate.count else "none that can be told"

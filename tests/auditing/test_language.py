"""Rows in a language that nobody expects."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.auditing.findings import Finding
from hf_langcore.auditing.language import LanguageCheck
from hf_langcore.auditing.parts import view_of
from hf_langcore.errors import InputError

Rows = list[dict[str, Any]]


def check(languages: list[str] | None = None, **options: Any) -> LanguageCheck:
    return LanguageCheck(languages, **{"column": None, "ratio": 5.0, "minority": 0.2, **options})


def audited(made: LanguageCheck, rows: Rows, form: Any = "text") -> list[Finding]:
    for number, row in enumerate(rows):
        assert not list(made.examine(view_of(number, row, form=form)))
    return list(made.finish())


def of(clean: dict[str, list[str]], *languages: str, count: int = 8) -> Rows:
    return [{"text": text} for language in languages for text in clean[language][:count]]


def test_what_most_rows_are_in_is_expected(clean: dict[str, list[str]]) -> None:
    """A few rows of another language stand out; ten languages with equal shares are all expected."""
    made = check()
    found = audited(made, [*of(clean, "de", count=8), {"text": clean["ru"][0]}])
    assert [(one.row, one.kind) for one in found] == [(8, "wrong_language")]
    assert found[0].detail == "looks like ru; expected de"
    assert found[0].excerpt[:20] == clean["ru"][0][:20]
    assert (made.expected(), dict(made.counts)) == (frozenset({"de"}), {"de": 8, "ru": 1})
    assert audited(check(), of(clean, *clean)) == []


def test_the_share_of_a_minority_decides(clean: dict[str, list[str]]) -> None:
    """Two rows of nine are a minority of a quarter or none, as the caller says."""
    rows = [*of(clean, "de", count=7), *of(clean, "fr", count=2)]
    assert audited(check(minority=0.25), rows) == []
    assert [one.row for one in audited(check(minority=0.5), rows)] == [7, 8]


def test_declared_languages_are_expected_whatever_the_rows_are_in(clean: dict[str, list[str]]) -> None:
    """Codes may be regional; the most frequent language is wrong where it is not declared."""
    rows = of(clean, "zh", "ko", count=4)
    assert [one.row for one in audited(check(["ko"]), rows)] == [0, 1, 2, 3]
    assert audited(check(["zh_Hans", "ko-KR"]), rows) == []


def test_a_column_declares_each_row(clean: dict[str, list[str]]) -> None:
    """A row is held to its own language, and a row that declares none to the others."""
    rows: Rows = [
        {"text": clean["es"][0], "lang": "es"},
        {"text": clean["es"][1], "lang": "tr"},
        *of(clean, "es", count=4),
    ]
    rows.append({"text": clean["tr"][0], "lang": None})
    assert [(one.row, one.detail) for one in audited(check(column="lang"), rows)] == [
        (1, "looks like es; expected tr"),
        (6, "looks like tr; expected es"),
    ]


def test_half_of_a_text_is_needed(clean: dict[str, list[str]]) -> None:
    """A quotation in another language is none of the check's business; each text of a row counts by itself."""
    english, turkish = " ".join(clean["en"][:4]), " ".join(clean["tr"][:4])
    assert audited(check(["en"]), [{"text": english + " " + turkish[:250]}]) == []
    assert [one.row for one in audited(check(["en"]), [{"text": english[:250] + " " + turkish}])] == [0]
    found = audited(check(["en"]), [{"prompt": english, "completion": turkish[:200]}], "prompt_completion")
    assert [one.part for one in found] == ["completion"]


@pytest.mark.parametrize(
    "text",
    [
        "Ja.",
        "3 + 4 = 7",
        "x = f(y)\nreturn x ** 2",
        "https://example.org/sehr/langer/deutscher/pfad/zu/einer/seite",
        "",
        "😀",
    ],
)
def test_what_has_too_few_letters_is_not_judged(text: str) -> None:
    """Numbers, addresses and short answers are in any language."""
    assert audited(check(["en"]), [{"text": text}]) == []


def test_a_larger_ratio_gives_the_benefit_of_the_doubt() -> None:
    """Norwegian that could nearly be Danish."""
    row = {"text": "Læreren så to hunder utenfor huset, og etterpå gikk hun hjem igjen."}
    assert audited(check(["da"], ratio=1.0), [row])
    assert not audited(check(["da"], ratio=1e6), [row])


def test_random_letters_are_in_no_language() -> None:
    """They are the business of another check."""
    made = check(["en"])
    assert audited(made, [{"text": "xkqv bnrtz zpwlq wkjhf gdsamn bvcpl kjhrt yfgwq xzjkh gfdlk jpoqw mnbzx"}]) == []
    assert made.of_row == [None]


@pytest.mark.parametrize("languages", [["xx"], ["en", "klingon"], []])
def test_languages_that_cannot_be_told_are_refused(languages: list[str]) -> None:
    """The message names the codes that can."""
    with pytest.raises(InputError, match=r"Expected codes out of: .*\ben, .*check `language`"):
        check(languages)

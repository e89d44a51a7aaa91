# ruff: noqa: RUF001
"""Letters by script."""

from __future__ import annotations

import pytest

from hf_langcore.language_id import _identifier, canonical
from hf_langcore.switching.scripts import runs, scripts_of


def test_runs_and_where_they_begin() -> None:
    """Digits, punctuation, emoji and signs of no script are left out; marks stay with their letters."""
    text = "1. Ab это2 漢字かなカナー 한글 e\u0301, हिन्दी 😀 ª№µ"
    found = [(one.script, one.start, one.text) for one in runs(text)]
    assert all(text[start : start + len(letters)] == letters for _, start, letters in found)
    assert [(script, letters) for script, _, letters in found[:9]] == [
        ("Latin", "Ab"),
        ("Cyrillic", "это"),
        ("Han", "漢字"),
        ("Hiragana", "かな"),
        ("Katakana", "カナ"),
        ("Hangul", "한글"),
        ("Latin", "e\u0301"),
        ("Devanagari", "हिन्दी"),
        ("Latin", "ª"),
    ]
    assert list(runs("12 + 3 = 15 !? 😀 ー")) == []
    assert [one.script for one in runs("ꦲ")] == ["other"]


def test_letters_of_dense_scripts_weigh_more() -> None:
    assert [next(runs(text)).weight for text in ("abcdef", "漢字", "한글", "かな")] == [6, 6, 4, 4]
    assert next(runs("e\u0301e\u0301")).weight == 2
    assert [next(runs(text)).is_cased for text in ("a", "я", "漢", "ا")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("language", "scripts"),
    [
        ("ja", {"Han", "Hiragana", "Katakana"}),
        ("ko", {"Hangul", "Han"}),
        ("sr", {"Cyrillic", "Latin"}),
        ("ru", {"Cyrillic"}),
        ("de", {"Latin"}),
    ],
)
def test_the_scripts_of_a_language(language: str, scripts: set[str]) -> None:
    assert set(scripts_of(language)) == scripts


def test_languages_of_the_identifier_with_a_script_of_their_own_are_known() -> None:
    """Those that are taken to be Latin are."""
    latin = {canonical(code) for code in _identifier().labels} - {"zxx"}
    latin = {code for code in latin if scripts_of(code) == ("Latin",)}
    assert not latin & {
        "ru",
        "hi",
        "th",
        "zh",
        "el",
        "ka",
        "am",
        "he",
        "fa",
        "ta",
        "ml",
        "my",
        "km",
        "lo",
        "dz",
        "ug",
        "or",
    }
    assert {"de", "vi", "tr", "sw", "pl"} <= latin

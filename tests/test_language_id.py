"""Which language a text is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_langcore.language_id import canonical, no_language, probabilities, require_known, windows


@pytest.mark.parametrize(
    ("code", "expected"),
    [("zh-Hans", "zh"), ("pt_BR", "pt"), (" EN ", "en"), ("nb", "no"), ("nn", "no"), ("deu", "de"), ("arz", "ar")],
)
def test_codes_of_one_language_are_one(code: str, expected: str) -> None:
    """Regions, scripts, three letters and varieties."""
    assert canonical(code) == expected


def test_probabilities_are_ordered_and_sum_to_one() -> None:
    """Varieties are added up."""
    found = probabilities("Der Lehrer hat gestern zwei Katzen gesehen.")
    values = list(found.values())
    assert next(iter(found)) == "de"
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1.0, abs=1e-4)
    assert "nn" not in found


def test_no_language() -> None:
    """Random letters have a high probability of being none, words a low one."""
    assert no_language("xkqv bnrtz zpwlq wkjhf gdsamn bvcpl kjhrt yfgwq xzjkh gfdlk") > 0.5
    assert no_language("The committee will meet again next week, when the figures") < 0.01


def test_known_codes() -> None:
    """In their canonical form."""
    assert require_known(["nb", "zh-CN"]) == {"no", "zh"}


def test_windows_cover_the_text_at_spaces() -> None:
    """Nothing is lost, words stay whole where they can, and no window is a crumb."""
    text = " ".join(f"word{index}" for index in range(60))
    pieces = list(windows(text, 50))
    assert "".join(piece for _, piece in pieces) == text
    assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
    assert all(20 <= len(piece) <= 75 for _, piece in pieces)
    assert all(piece.strip().startswith("word") for _, piece in pieces)
    assert [(start, len(piece)) for start, piece in windows("x" * 100, 40, 20)] == [
        (0, 40),
        (20, 40),
        (40, 40),
        (60, 40),
    ]
    assert list(windows("", 50)) == []


@pytest.mark.real
def test_real_text_in_thirty_languages(real_data_path: Path) -> None:
    """The first 200 characters of each test document; the few mistakes are between Indonesian and Malay."""
    right = total = 0
    for path in sorted((real_data_path / "test").glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines()[:8]:
            right += next(iter(probabilities(line[:200]))) == path.stem
            total += 1
    assert total == 240
    assert right / total > 0.98

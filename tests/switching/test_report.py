"""Rates, intervals, confusion and examples."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hf_langcore.errors import InputError
from hf_langcore.switching import Generation, Judgement, SwitchingReport
from hf_langcore.switching.report import Rate, wilson


def generation(
    language: str, outcome: str, found: str | None = None, by: str | None = None, place: int | None = None
) -> Generation:
    share = 0.5 if outcome == "left" else 0.0
    judgement = Judgement(outcome, found or (language if outcome == "stayed" else None), by, place, share)
    return Generation(language, "prompt", "one two three four", judgement)


REPORT = SwitchingReport(
    (
        generation("de", "stayed"),
        generation("de", "left", "en", "language", 4),
        generation("de", "left", "Greek letters", "script", 8),
        generation("de", "too short"),
        generation("zh", "stayed"),
        generation("zh", "no language"),
    ),
    {"seed": 1},
)


def test_shares_are_of_what_can_be_told() -> None:
    assert REPORT.languages == ["de", "zh"]
    assert (REPORT.rate("de").value, REPORT.rate("de").count) == (pytest.approx(2 / 3), 3)
    assert REPORT.rate("de", by="script").value == pytest.approx(1 / 3)
    assert (REPORT.rate("zh").value, REPORT.rate().value) == (0.0, 0.5)
    assert REPORT.outcomes("de") == {"stayed": 1, "left": 2, "too short": 1, "no language": 0}
    assert REPORT.confusion() == {"de": {"de": 1, "en": 1, "Greek letters": 1}, "zh": {"zh": 1}}
    with pytest.raises(InputError, match="no prompts in 'fr'"):
        REPORT.rate("fr")


def test_wilson_intervals() -> None:
    """Figures of R's prop.test without continuity correction."""
    one = wilson(3, 20)
    assert (one.low, one.high) == (pytest.approx(0.05237, abs=1e-4), pytest.approx(0.36042, abs=1e-4))
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(0.27753, abs=1e-4)
    assert wilson(10, 10).high == 1.0
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert nothing == Rate(nothing.value, 0.0, 1.0, 0)


def test_examples_show_the_place() -> None:
    shown = [one.excerpt() for one in REPORT.examples("de")]
    assert shown == ["one | two three four", "one two | three four"]
    assert REPORT.examples("zh") == []
    long = Generation("de", "", "a" * 100 + " b", Judgement("left", "en", "script", 101, 1.0))
    assert long.excerpt() == "…" + "a" * 39 + " | b"


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    REPORT.to_json(tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert SwitchingReport.from_dict(values) == REPORT
    assert values["rates"]["de"]["count"] == 3
    only_short = SwitchingReport((generation("de", "too short"),))
    assert json.loads(only_short.to_json())["rate"]["value"] is None
    for broken in ({}, {**values, "format_version": 9}, {**values, "generations": [{}]}):
        with pytest.raises(InputError, match="no report of code-switching"):
            SwitchingReport.from_dict(broken)


def test_tables() -> None:
    text = REPORT.to_markdown()
    assert "| de | 66.7% (20.8% to 93.9%) | 2 of 3 | 1 | 0 | en 1, Greek letters 1 |" in text
    assert "- de -> en: one \\| two three four" in text
    assert REPORT.__rich__().renderables[0].row_count == 3

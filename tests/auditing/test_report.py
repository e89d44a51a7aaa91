"""What a report says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hf_langcore.auditing import AuditReport, Finding
from hf_langcore.auditing.outliers import Scored
from hf_langcore.auditing.parts import Part

FINDINGS = [
    Finding(1, "repetition", "repeated_run", "text", "'the' stands 8 times in a row", "the the", 20.0),
    Finding(1, "encoding", "markup", "text", "the tag <br>", "a <br> | b", 2.0),
    Finding(3, "repetition", "repeated_run", "text", "'a' stands 9 times in a row", "lone \ud83d", 50.0),
    Finding(5, "perplexity", "high_perplexity", "text", "perplexity inf", "x", math.inf),
]
SCORES = [Scored(row, math.log(10.0), 10, Part("text", "x")) for row in range(4)] + [
    Scored(5, math.inf, 3, Part("text", "x"))
]


@pytest.fixture
def report() -> AuditReport:
    settings = {"expected_languages": ["en"], "declared": True}
    return AuditReport(rows=8, findings=FINDINGS, languages={"en": 7}, scores=SCORES, settings=settings)


def test_counts_and_shares_are_of_rows(report: AuditReport) -> None:
    """A row that has two kinds of noise is flagged once."""
    assert report.flagged == [1, 3, 5]
    assert report.counts() == {
        "repetition": {"repeated_run": 2},
        "encoding": {"markup": 1},
        "perplexity": {"high_perplexity": 1},
    }
    assert report.shares() == {"repeated_run": 0.25, "markup": 0.125, "high_perplexity": 0.125}
    assert [one.kind for one in report.of_row(1)] == ["repeated_run", "markup"]
    assert repr(report) == "AuditReport(3 of 8 rows flagged, 4 findings)"


def test_the_worst_come_first(report: AuditReport) -> None:
    """By their score."""
    assert [one.row for one in report.worst("repeated_run")] == [3, 1]
    assert [one.row for one in report.worst("repeated_run", 1)] == [3]


def test_perplexity_is_token_weighted(report: AuditReport) -> None:
    """Of the rows whose loss is a number."""
    found = report.perplexity()
    assert (found["rows"], found["tokens"]) == (4, 40)
    assert found["perplexity"] == pytest.approx(10.0)
    assert found["p50"] == pytest.approx(10.0)
    uneven = AuditReport(2, [], scores=[Scored(0, 1.0, 30, Part("text", "")), Scored(1, 5.0, 10, Part("text", ""))])
    assert uneven.perplexity()["perplexity"] == pytest.approx(math.exp(2.0))
    assert AuditReport(2, []).perplexity() == {}


def test_json_is_json(report: AuditReport, tmp_path: Path) -> None:
    """Infinity becomes a string and half an emoji its escape; the file is the text."""
    text = report.to_json(tmp_path / "report.json")
    values = json.loads(text, parse_constant=pytest.fail)
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == text
    assert (values["rows"], values["flagged_rows"], values["format_version"]) == (8, 3, 1)
    assert values["findings"][2]["excerpt"] == "lone \\ud83d"
    assert values["findings"][3]["score"] == "inf"
    assert values["counts"] == report.counts()


def test_markdown_and_console(report: AuditReport, tmp_path: Path) -> None:
    """Counts, shares, and examples with their rows, which Markdown does not take for markup."""
    text = report.to_markdown(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text
    assert "| repetition | repeated_run | 2 | 25.00% |" in text
    assert text.index("row 3, text: 'a' stands") < text.index("row 1, text: 'the' stands")
    assert "the tag &lt;br>: `` a <br> | b ``" in text
    assert "3 of 8 rows flagged (37.50%); declared languages: en; perplexity 10 over 40 tokens" in text
    printed = str(report)
    assert "repeated_run" in printed
    assert "row 3: 'a' stands 9 times in a row" in printed
    assert AuditReport(4, []).to_markdown().count("\n##") == 0

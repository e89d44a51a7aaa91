"""The language x condition table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.evaluation import LanguageScore, PerplexityReport


def report(nll: dict[str, float], *, text: str = "t", name: str = "model") -> PerplexityReport:
    return PerplexityReport(
        {name: {language: LanguageScore(value, 100) for language, value in nll.items()}},
        settings={"text_sha256": text, "dtype": "float32"},
    )


BASE = report({"en": 1.0, "zh": 2.0})
BROKEN = report({"en": 4.0, "zh": 1000.0})
TABLE = PerplexityReport.compare({"base": BASE, "top 3 %": BROKEN})


def test_one_condition() -> None:
    """A report of one condition speaks for itself."""
    assert BASE.perplexity == pytest.approx({"en": math.e, "zh": math.e**2})
    assert BASE.nll == {"en": 1.0, "zh": 2.0}
    assert BASE.tokens == {"en": 100, "zh": 100}
    assert BASE.mean() == pytest.approx(math.exp(1.5))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 20), min_size=1, max_size=6))
def test_mean_is_geometric(nll: dict[str, float]) -> None:
    """The mean of perplexities is geometric, each language counting the same."""
    product = math.prod(math.exp(value) for value in nll.values())
    assert report(nll).mean() == pytest.approx(product ** (1 / len(nll)), rel=1e-6)


def test_several_conditions() -> None:
    """A table is read one condition at a time; deltas are against the first."""
    assert TABLE["top 3 %"].nll["en"] == 4.0
    assert TABLE.deltas() == {"top 3 %": {"en": 3.0, "zh": 998.0}}
    assert TABLE.mean("base") == BASE.mean()
    with pytest.raises(InputError, match=r"report\['base'\]"):
        _ = TABLE.perplexity
    with pytest.raises(KeyError, match="there are"):
        TABLE["nothing"]


def test_figures_of_different_texts_are_not_compared() -> None:
    """Reports on other texts or languages cannot stand in one table."""
    with pytest.raises(InputError, match="different texts"):
        PerplexityReport.compare({"base": BASE, "other": report({"en": 1.0, "zh": 1.0}, text="u")})
    with pytest.raises(InputError, match="same languages"):
        PerplexityReport.compare({"base": BASE, "other": report({"en": 1.0})})
    with pytest.raises(InputError, match="got none"):
        PerplexityReport.compare({})
    with pytest.raises(InputError, match="at least one"):
        PerplexityReport({})


def test_json_round_trip(tmp_path: Path) -> None:
    """What is written comes back, infinity included, and is plain JSON."""
    infinite = PerplexityReport.compare({"base": BASE, "gone": report({"en": math.inf, "zh": 2.0})})
    text = infinite.to_json(tmp_path / "deep" / "report.json")
    assert (tmp_path / "deep" / "report.json").read_text(encoding="utf-8") == text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for source in (text, tmp_path / "deep" / "report.json"):
        again = PerplexityReport.from_json(source)
        assert again.conditions == infinite.conditions
        assert again.settings == infinite.settings


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"conditions": {"a": {"en": {}}}}',
        '{"settings": 3, "conditions": {"a": {"en": {"nll": 1, "tokens": 2}}}}',
        '{"condition_settings": [1], "conditions": {"a": {"en": {"nll": 1, "tokens": 2}}}}',
        "{broken",
        "no such file",
    ],
)
def test_other_json_is_refused(text: str) -> None:
    """Something that is no report is an error of its own."""
    with pytest.raises(InputError, match="no perplexity report"):
        PerplexityReport.from_json(text)


def test_settings_of_conditions() -> None:
    """Each condition keeps its own; of tables made by hand nobody knows what the further conditions were."""
    other = report({"en": 4.0, "zh": 5.0})
    other.settings["edits"] = ["zero"]
    other.settings["dtype"] = "bfloat16"
    table = PerplexityReport.compare({"base": BASE, "top": other})
    assert table.settings_of("base") == BASE.settings
    assert table.settings_of("top") == table["top"].settings == other.settings
    again = PerplexityReport.from_json(table.to_json())
    assert again.settings_of("top") == other.settings
    assert again.settings_of("base") == BASE.settings
    by_hand = PerplexityReport(
        table.conditions, settings={"text_sha256": "t", "edits": [], "adapters": [], "date": "x"}
    )
    assert by_hand.settings_of("base")["edits"] == []
    assert by_hand.settings_of("top") == {"text_sha256": "t"}


def test_older_json() -> None:
    """Without bytes and without settings of conditions."""
    old = '{"format_version": 1, "settings": {"dtype": "float32"}, "conditions": {"a": {"en": {"nll": "inf", "tokens": 3}}}}'
    found = PerplexityReport.from_json(old)
    assert found.conditions == {"a": {"en": LanguageScore(math.inf, 3)}}
    assert found.settings_of("a") == {"dtype": "float32"}


def test_markdown() -> None:
    """One row a language, one column a condition, the geometric mean last; huge figures stay short."""
    lines = TABLE.to_markdown().splitlines()
    assert lines[0] == "| language | tokens | base | top 3 % |"
    assert lines[2] == "| en | 100 | 2.72 | 54.60 |"
    assert lines[3] == "| zh | 100 | 7.39 | inf |"
    assert lines[4].startswith("| mean (geometric) | 200 | 4.48 |")
    assert {line.count("|") for line in lines} == {5}


def test_console_table() -> None:
    """print(report) shows every language and condition, with what was measured below."""
    text = str(TABLE)
    assert all(part in text for part in ("language", "base", "top 3 %", "en", "zh", "54.60", "dtype float32"))
    assert repr(TABLE).startswith("PerplexityReport(2 languages, geometric mean: base 4.48")

"""Shares, margins, lifts and their intervals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hf_langcore.errors import InputError
from hf_langcore.knowledge import KnowledgeReport
from hf_langcore.knowledge.bootstrap import Estimate, draws, estimate
from hf_langcore.knowledge.scores import FactScore, PairScore, lifts

INF = -math.inf


def fact(
    name: str, likely: tuple[float, ...], language: str = "en", kind: str = "k", texts: str = "abcd"
) -> FactScore:
    return FactScore(language, kind, name, tuple(texts[: len(likely)]), likely)


def pair(likely: tuple[float, float], phenomenon: str = "p", language: str = "en", name: str = "ab") -> PairScore:
    return PairScore(language, phenomenon, name, ("ab", "abcd"), likely)


def test_the_likeliest_alternative_gets_the_point_and_those_that_tie_share_it() -> None:
    assert [fact("x", likely).credit() for likely in ((-1.0, -2.0, -3.0, -4.0), (-2.0, -1.0), (-1.0, -1.0, -5.0))] == [
        1.0,
        0.0,
        0.5,
    ]
    assert fact("x", (INF,) * 4).credit() == fact("x", (INF,) * 4).chance == 0.25
    assert fact("x", (INF, -3.0)).credit() == 0.0


def test_per_byte_a_longer_alternative_is_not_punished() -> None:
    """Summed the short sentence wins; per byte the long one does."""
    one = pair((-4.0, -5.0))
    assert (one.credit(), one.credit(per_byte=True)) == (1.0, 0.0)
    assert one.margin() == 1.0
    assert one.margin(per_byte=True) == pytest.approx(-4 / 2 + 5 / 4)


def test_margins() -> None:
    """Against the mean of the wrong ones; nothing beside nothing is no margin."""
    assert fact("x", (-1.0, -2.0, -4.0)).margin() == 2.0
    assert fact("x", (INF, INF)).margin() == 0.0
    assert fact("x", (-1.0, INF)).margin() == math.inf


def test_a_lift_is_what_the_own_prompt_adds() -> None:
    """A model that likes one word best after every prompt has margins, and no lift."""
    habit = [fact("1", (-1.0, -5.0), texts="ab"), fact("2", (-5.0, -1.0), texts="ba")]
    assert [one.margin() for one in habit] == [4.0, -4.0]
    assert lifts(habit) == [("1", 0.0), ("2", 0.0)]
    knowing = [fact("1", (-1.0, -5.0), texts="ab"), fact("2", (-2.0, -4.0), texts="ba")]
    assert lifts(knowing) == [("1", 3.0), ("2", 3.0)]
    elsewhere = [fact("1", (-1.0, -5.0), texts="ab"), fact("2", (-2.0, -4.0), language="de", texts="ba")]
    assert lifts(elsewhere) == []
    assert lifts([fact("1", (INF, INF), texts="ab"), fact("2", (INF, INF), texts="ba")]) == [("1", 0.0), ("2", 0.0)]


REPORT = KnowledgeReport(
    (
        *(fact(f"f{n}", (-1.0, -2.0, -2.0, -2.0) if n < 6 else (-2.0, -1.0, -2.0, -2.0)) for n in range(8)),
        *(fact(f"f{n}", (-3.0, -2.0, -2.0, -2.0), "de", "other") for n in range(8)),
    ),
    tuple(pair((-1.0, -2.0 + n), "p" if n else "q", name=str(n)) for n in range(4)),
    {"resamples": 200, "seed": 1},
)


def test_shares_by_language_and_group() -> None:
    assert REPORT.languages == ["en", "de"]
    assert REPORT.groups("facts") == ["k", "other"]
    assert REPORT.groups("pairs", "en") == ["q", "p"]
    one = REPORT.accuracy("facts", language="en")
    assert (one.value, one.items) == (0.75, 8)
    assert 0.2 < one.low < 0.75 < one.high <= 1.0
    assert REPORT.accuracy("facts", group="other").value == 0.0
    assert REPORT.accuracy("facts").value == 0.375
    assert REPORT.accuracy("pairs").value == pytest.approx((1 + 0.5) / 4)
    assert REPORT.margin("pairs", group="q").value == 1.0
    assert (REPORT.chance("facts"), REPORT.chance("pairs")) == (0.25, 0.5)


def test_a_fact_is_one_entry_in_all_languages() -> None:
    """Twice the languages with the same outcome leave the interval as it was."""
    once = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    names = list("abcdef")
    one = estimate(once, names, resamples=500, seed=0)
    twice = estimate(once * 2, names * 2, resamples=500, seed=0)
    apart = estimate(once * 2, list("abcdefghijkl"), resamples=500, seed=0)
    assert (twice.low, twice.high) == (one.low, one.high)
    assert apart.high - apart.low < one.high - one.low


def test_the_bootstrap_draws_whole_clusters() -> None:
    weights = draws(["a", "b", "a", "c"], resamples=300, seed=3)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[:, 1].mean() == pytest.approx(1.0, abs=0.2)
    assert estimate([1.0, math.inf], ["a", "b"], resamples=10, seed=0) == Estimate(math.inf, math.inf, math.inf, 2)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Infinite figures too; the summary says what the methods say."""
    whole = KnowledgeReport((*REPORT.facts, fact("broken", (INF, -2.0, -3.0, INF))), REPORT.pairs, REPORT.settings)
    text = whole.to_json(tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert json.loads(text) == values
    assert KnowledgeReport.from_dict(values) == whole
    row = next(
        one for one in values["summary"] if one["what"] == "facts" and one["language"] == "de" and not one["group"]
    )
    assert (row["items"], row["accuracy"]["value"], row["lift"]) == (8, 0.0, None)
    for broken in ({}, {**values, "format_version": 2}, {**values, "facts": [{"language": "en"}]}):
        with pytest.raises(InputError, match="no report of facts"):
            KnowledgeReport.from_dict(broken)


def test_unknown_entries_are_refused_and_tables_have_all_rows() -> None:
    for options in ({"language": "fr"}, {"group": "none"}):
        with pytest.raises(InputError, match="There are no facts with"):
            REPORT.accuracy("facts", **options)
    with pytest.raises(InputError, match='"facts" or "pairs"'):
        REPORT.accuracy("fact")  # type: ignore[arg-type]
    lines = REPORT.to_markdown().splitlines()
    assert "| facts | en | all | 8 | 25% | 75% (" in "\n".join(lines)
    assert len(lines) == 2 + 3 + 2 + 2 + 1 + 3
    assert REPORT.__rich__().row_count == len(lines) - 2

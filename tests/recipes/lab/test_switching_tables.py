"""Rates as tables, curves, matrices and texts."""

from __future__ import annotations

import pytest

from hf_langcore.recipes.lab.switching_tables import (
    confusion_matrix,
    examples,
    outcome_table,
    rate_table,
    training_curves,
    verdicts,
)
from hf_langcore.report.parts import Spread
from hf_langcore.switching import Generation, Judgement, SwitchingReport


def report(**found: str) -> SwitchingReport:
    """Of each language texts that ended up in these languages, "-" for one that cannot be told."""
    listed = []
    for language, codes in found.items():
        for number, code in enumerate(codes.split()):
            outcome = "too short" if code == "-" else "stayed" if code == language else "left"
            judgement = Judgement(
                outcome, None if code == "-" else code, "language" if outcome == "left" else None, 0, 0.5
            )
            listed.append(Generation(language, f"{language} {number}", f"text {code}", judgement))
    return SwitchingReport(tuple(listed))


BEFORE = report(de="de de de -", zh="zh zh")
AFTER = report(de="zh de zh -", zh="zh zh")
STATES = {"unedited": BEFORE, "trained on zh": AFTER}


def test_rates_and_outcomes() -> None:
    rows = {row[0]: row[1:] for row in rate_table(STATES).rows}
    assert isinstance(rows["de"][1], Spread)
    assert [cell.value for cell in rows["de"]] == [0.0, pytest.approx(200 / 3)]
    assert [cell.value for cell in rows["all"]] == [0.0, 40.0]
    assert outcome_table(STATES).rows[1] == ("trained on zh", 6, 3, 2, 1, 0, 0.0, 40.0)
    assert rate_table({"unedited": report(de="-")}).rows[0][1] is None


def test_the_trained_language_and_the_others_apart() -> None:
    curves = training_curves({0: BEFORE, 8: AFTER}, "zh")
    assert curves.x == (0.0, 8.0)
    assert curves.lines["prompts in zh"] == (0.0, 0.0)
    assert curves.lines["prompts in other languages"] == (0.0, pytest.approx(200 / 3))
    assert curves.lines["of these, into zh"] == (0.0, pytest.approx(200 / 3))


def test_confusion_as_shares() -> None:
    matrix = confusion_matrix("trained on zh", report(de="zh de en -", zh="-"))
    assert (matrix.rows, matrix.columns) == (("de", "zh"), ("de", "zh", "en"))
    assert matrix.values[0] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert matrix.values[1] == (None, None, None)


def test_examples_show_all_states_after_one_prompt() -> None:
    first, second = examples(STATES)
    assert {first.prompt, second.prompt} == {"de 0", "de 2"}
    assert first.texts == {"unedited": "text de", "trained on zh": "text zh"}
    assert first.figures["trained on zh"] == "left: zh"


def test_verdicts_say_what_intervals_allow() -> None:
    said = verdicts(STATES, "zh")
    assert "no clear difference" in said[1]
    assert "17% of the texts cannot be told" in said[1]
    assert "66.7%" in said[-1]
    many = {"unedited": report(de="de " * 40), "trained on zh": report(de="zh " * 40)}
    assert "(more)" in verdicts(many, "zh")[1]

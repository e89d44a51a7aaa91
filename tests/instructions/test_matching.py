"""Whole answers and single digits."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.instructions import arithmetic_match, load_arithmetic_metric
from hf_langcore.instructions.matching import answer_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("46", ("", "46", "")),
        (" 3 * 4 = 12 = 113,442\n", ("", "113442", "")),
        ("The answer is 46.", ("", "46", "")),
        ("= -7", ("-", "7", "")),
        ("\u22127", ("-", "7", "")),
        ("8914 / 64 = ?\n8914 / 64 = 139 R 18", ("", "139", "18")),
    ],
)
def test_answers_are_found(text: str, expected: tuple[str, str, str]) -> None:
    """Behind the last equals sign; commas between thousands and words around it do not matter."""
    answer = answer_in(text)
    assert answer is not None
    assert ("-" if answer.negative else "", answer.number, answer.remainder) == expected


@pytest.mark.parametrize(
    "text",
    ["", "abc", "3 + 4 =", "4 6", "5-7", "1,2", "46.5", "46 R", "12 R 3 R 4", "x1 46", "139 R 18x", "7 = seven"],
)
def test_what_is_no_single_answer_is_malformed(text: str) -> None:
    """It counts as wrong in both figures, and is counted apart."""
    assert answer_in(text) is None
    found = arithmetic_match([text, "46"], ["46", "46"])
    assert (found.exact_match, found.digit_match, found.malformed, found.rows) == (0.5, 0.5, 1, 2)


@pytest.mark.parametrize(
    ("prediction", "answer", "share"),
    [
        ("1234", "1234", 1),
        ("1244", "1234", 3 / 4),
        ("234", "1234", 3 / 4),  # units stand below units
        ("123", "1234", 0),
        ("11234", "1234", 4 / 5),
        ("7", "-7", 1 / 2),
        ("-7", "7", 1 / 2),
        ("-7", "-7", 1),
        ("139 R 17", "139 R 18", 4 / 5),
        ("139", "139 R 18", 3 / 5),
        ("139 R 18", "139", 3 / 5),
        ("139 R 8", "139 R 18", 4 / 5),
    ],
)
def test_digits_are_compared_in_their_places(prediction: str, answer: str, share: float) -> None:
    """Too many and too few count as wrong."""
    found = arithmetic_match([prediction], [answer])
    assert found.digit_match == pytest.approx(share)
    assert found.exact_match == (share == 1)


def test_figures_by_operation() -> None:
    """Each operation has the mean of its own rows."""
    found = arithmetic_match(["3", "14", "x", "9"], ["3", "13", "5", "9"], operations=["+", "+", "-", "-"])
    assert (found.exact_match, found.digit_match) == (0.5, pytest.approx(2.5 / 4))
    plus, minus = found.by_operation["+"], found.by_operation["-"]
    assert (plus.exact_match, plus.digit_match, plus.malformed, plus.rows) == (0.5, 0.75, 0, 2)
    assert (minus.exact_match, minus.digit_match, minus.malformed, minus.rows) == (0.5, 0.5, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["1"] * 3, ["1"] * 9), "3 predictions, 9 answers"),
        ((["1"], ["1"], ["+", "+"]), "1 predictions, 1 answers, 2 operations"),
        (([], []), "no predictions"),
        (("12", "12"), "list of strings"),
        (([1], ["1"]), "list of strings"),
        ((["1"], ["one"]), "Answer 0 is 'one'"),
    ],
)
def test_bad_input_is_named(arguments: Any, message: str) -> None:
    """Texts and answers of unequal number above all."""
    predictions, answers, *operations = arguments
    with pytest.raises(InputError, match=message):
        arithmetic_match(predictions, answers, operations=operations[0] if operations else None)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_same_figures_as_an_evaluate_metric(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """`evaluate` gives what the function gives, and refuses unequal numbers."""
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    metric = load_arithmetic_metric()
    found = metric.compute(predictions=["3", "14"], references=["3", "13"], operations=["+", "-"])
    assert (found["exact_match"], found["digit_match"], found["malformed"], found["rows"]) == (0.5, 0.75, 0, 2)
    assert found["by_operation"]["-"]["digit_match"] == 0.5
    with pytest.raises(ValueError, match=r"predictions \(1\) and references \(2\)"):
        metric.compute(predictions=["3"], references=["3", "13"])

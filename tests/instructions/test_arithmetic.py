"""Problems to learn and to measure."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.instructions import arithmetic_match, arithmetic_rows, arithmetic_split
from hf_langcore.instructions.arithmetic import below, problem_of

_RESULTS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def result(row: dict[str, str]) -> str:
    first, operation, second = problem_of(row)
    if operation != "/":
        return str(_RESULTS[operation](first, second))
    quotient, remainder = divmod(first, second)
    return f"{quotient} R {remainder}" if remainder else str(quotient)


@pytest.mark.parametrize("wording", ["plain", "varied"])
@pytest.mark.parametrize("decomposition", [True, False])
def test_answers_are_right_and_problems_distinct(wording: Any, decomposition: bool) -> None:
    """Of all operations equally many; each completion starts with a space and ends with the answer."""
    rows = arithmetic_rows(400, digits=(1, 4), wording=wording, decomposition=decomposition)
    assert len({problem_of(row) for row in rows}) == 400
    assert Counter(row["operation"] for row in rows) == dict.fromkeys("+-*/", 100)
    for row in rows:
        assert row["answer"] == result(row)
        assert row["completion"].startswith(" ")
        assert row["completion"].endswith(f" {row['answer']}")
        first, operation, second = problem_of(row)
        if wording == "plain":
            assert row["prompt"] == f"{first} {operation} {second} ="
        else:
            assert row["completion"].startswith(f" {first} {operation} {second} = ")
        assert decomposition or row["completion"].count("=") == (wording == "varied")
    assert any(row["completion"].count("=") > 2 for row in rows) == decomposition
    assert arithmetic_match([row["completion"] for row in rows], [row["answer"] for row in rows]).exact_match == 1


def test_numbers_have_the_digits_asked_for() -> None:
    """All lengths come, and only these; a quotient is never zero, a difference negative only if allowed."""
    rows = [problem_of(row) for row in arithmetic_rows(600, digits=(2, 4))]
    assert {len(str(number)) for row in rows for number in (row.first, row.second)} == {2, 3, 4}
    assert {(len(str(row.first)), len(str(row.second))) for row in rows if row.operation == "+"} == {
        (first, second) for first in (2, 3, 4) for second in (2, 3, 4)
    }
    assert all(row.first >= row.second for row in rows if row.operation in "-/")
    negative = [problem_of(row) for row in arithmetic_rows(200, operations=("-",), negative=True)]
    assert any(row.first < row.second for row in negative)
    exact = [row.first % row.second == 0 for row in rows if row.operation == "/"]
    assert 0.35 < sum(exact) / len(exact) < 0.65
    long = [problem_of(row) for row in arithmetic_rows(8, digits=(18, 18))]
    assert all(len(str(row.first)) == 18 for row in long)


def test_the_same_seed_gives_the_same_rows_in_every_python() -> None:
    """A digest that must not change: people compare runs by it."""
    rows = arithmetic_rows(200, digits=(1, 5), seed=7, wording="varied", negative=True)
    digest = hashlib.sha256("\n".join(row["prompt"] + row["completion"] for row in rows).encode()).hexdigest()
    assert digest[:16] == "4d7443d458bf844d"
    assert arithmetic_rows(200, digits=(1, 5), seed=8) != arithmetic_rows(200, digits=(1, 5), seed=7)
    plain = arithmetic_rows(200, digits=(1, 5), seed=7, negative=True)
    assert [problem_of(row) for row in plain] == [problem_of(row) for row in rows]


def test_all_problems_come_before_none_is_left() -> None:
    """Numbers up to 2: 9 additions, 9 products, 6 differences, 3 quotients; one more is refused."""
    rows = arithmetic_rows(27, largest=2)
    assert len({row["prompt"] for row in rows}) == 27
    assert Counter(row["operation"] for row in rows) == {"+": 9, "*": 9, "-": 6, "/": 3}
    with pytest.raises(InputError, match="there are 27 problems"):
        arithmetic_rows(28, largest=2)
    assert len(arithmetic_rows(9, largest=2, operations="-", negative=True)) == 9
    quotients = {row["prompt"] for row in arithmetic_rows(21, largest=6, operations="/", seed=1)}
    assert quotients == {f"{first} / {second} =" for second in range(1, 7) for first in range(second, 7)}


@pytest.mark.parametrize("wording", ["plain", "varied"])
def test_no_problem_is_on_both_sides(wording: Any) -> None:
    """Not even with its numbers in the other order, where that changes nothing; test rows stay when the seed changes."""
    train, test = arithmetic_split(300, 60, largest=15, wording=wording)
    assert (len(train), len(test)) == (300, 60)

    def keys(rows: list[dict[str, str]]) -> set[Any]:
        problems = [problem_of(row) for row in rows]
        return {(p.operation, *(sorted((p.first, p.second)) if p.operation in "+*" else p[::2])) for p in problems}

    assert not keys(train) & keys(test)
    others, same = arithmetic_split(300, 60, largest=15, wording=wording, seed=1)
    assert same == test
    assert others != train
    assert arithmetic_split(300, 60, largest=15, wording=wording, test_seed=1)[1] != test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count"),
        ({"operations": ()}, "operations"),
        ({"operations": ("+", "+")}, "operations"),
        ({"operations": ("^",)}, "operations"),
        ({"digits": (2, 1)}, "digits"),
        ({"digits": (0, 1)}, "digits"),
        ({"digits": (1, 19)}, "digits"),
        ({"largest": -1}, "largest"),
        ({"wording": "odd"}, "wording"),
        ({"exclude": [{"prompt": "hello"}]}, "row of arithmetic_rows"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    """One sentence says what is possible."""
    with pytest.raises(InputError, match=message):
        arithmetic_rows(**{"count": 5, **options})


def test_numbers_below_a_limit_are_all_possible_and_equally_likely() -> None:
    """Also limits beyond what `random()` can tell apart."""
    generator = random.Random(0)
    counts = Counter(below(7, generator) for _ in range(7000))
    assert set(counts) == set(range(7))
    assert max(counts.values()) < 1150
    large = [below(10**36, generator) for _ in range(200)]
    assert 0.4 < sum(number / 10**36 for number in large) / 200 < 0.6
    assert len({number % 1000 for number in large}) > 150

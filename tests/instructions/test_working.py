"""Steps are true, in order, and end with the answer."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.instructions.working import Problem, answer_of, working_of

NUMBERS = st.integers(0, 10**6)


def value(expression: str) -> int:
    """The value of sums, differences, products and brackets."""
    assert re.fullmatch(r"[\d+*() -]+", expression)
    return int(eval(expression))  # noqa: S307 digits and signs only


@given(NUMBERS, NUMBERS)
def test_every_step_of_a_product_has_its_value(first: int, second: int) -> None:
    """All sides of the equation are equal; no side multiplies two longer numbers; the last is the answer."""
    problem = Problem(first, "*", second)
    sides = working_of(problem).split(" = ")
    assert {value(side) for side in sides} == {first * second}
    assert sides[-1].strip() == answer_of(problem)
    for side in sides[1:]:
        for factors in re.findall(r"\d+ \* \d+", side):
            assert any(len(factor.rstrip("0")) <= 1 for factor in factors.split(" * ")), side
    sums = [side.count("+") for side in sides[2:]]
    assert all(after == before - 1 for before, after in pairwise(sums)), "one sum at a time"


@given(NUMBERS, st.integers(1, 10**4))
def test_every_step_of_a_quotient_is_true(first: int, second: int) -> None:
    """Each line takes a multiple away, goes on from what the line before left, and all multiples together are the quotient."""
    problem = Problem(first, "/", second)
    *lines, last = working_of(problem).split("\n")
    quotient, remainder = divmod(first, second)
    expected = f"{quotient} R {remainder}" if remainder else f"{quotient}"
    assert answer_of(problem) == expected
    if not lines:
        assert last == f" {expected}"
        assert second < 10 or first <= second
        return
    assert (lines[0], last) == (" ?", f"{first} / {second} = {expected}")
    left, taken = first, 0
    for line in lines[1:]:
        sides = line.split(" = ")
        assert {value(side) for side in sides} == {value(sides[0])}
        before, divisor, multiple = map(int, re.fullmatch(r"(\d+) - (\d+) \* (\d+)", sides[0]).groups())  # type: ignore[union-attr]
        assert (before, divisor, len(str(multiple).rstrip("0"))) == (left, second, 1)
        left, taken = int(sides[-1]), taken + multiple
    assert (left, taken) == (remainder, quotient)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Problem(12, "+", 34), " 46"),
        (Problem(3, "-", 10), " -7"),
        (Problem(1234, "*", 7), " 8638"),
        (Problem(1234, "*", 700), " 863800"),
        (Problem(37, "*", 3066), " 3066 * (30 + 7) = 3066 * 30 + 3066 * 7 = 91980 + 21462 = 113442"),
        (Problem(12, "*", 305), " 305 * (10 + 2) = 305 * 10 + 305 * 2 = 3050 + 610 = 3660"),
        (Problem(1000, "/", 8), " 125"),
        (Problem(50, "/", 7), " 7 R 1"),
        (Problem(41, "/", 41), " 1"),
        (Problem(0, "/", 12), " 0"),
        (Problem(915, "/", 45), " ?\n915 - 45 * 20 = 915 - 900 = 15\n915 / 45 = 20 R 15"),
    ],
)
def test_examples(problem: Problem, expected: str) -> None:
    """What is learned directly is a result alone; zeros in a number make no steps."""
    assert working_of(problem) == expected

"""How a problem is worked out: which ones are learned as they are, and how the others are taken apart.

The rules are those of Goat (Liu and Low, 2023): a product of two longer numbers is split by the places of one of them, and
its partial products are added one by one; a quotient by a longer number is found by taking multiples of the divisor away.
"""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """Two numbers, not negative, and what is to be done with them."""

    first: int
    operation: str
    second: int

    def __str__(self) -> str:
        return f"{self.first} {self.operation} {self.second}"


def answer_of(problem: Problem) -> str:
    """The result as digits; `139 R 18` for a quotient with a remainder."""
    first, operation, second = problem
    if operation == "+":
        return str(first + second)
    if operation == "-":
        return str(first - second)
    if operation == "*":
        return str(first * second)
    quotient, remainder = divmod(first, second)
    return f"{quotient} R {remainder}" if remainder else str(quotient)


def working_of(problem: Problem) -> str:
    """What follows `{problem} =`: the result, or the steps that lead to it and then the result."""
    if problem.operation == "*" and not (_is_short(problem.first) or _is_short(problem.second)):
        return _product(*sorted((problem.first, problem.second), reverse=True))
    if problem.operation == "/" and not _is_direct_quotient(problem.first, problem.second):
        return _quotient(problem)
    return f" {answer_of(problem)}"


def _product(larger: int, smaller: int) -> str:
    """The smaller number is split, because it makes fewer partial products."""
    places = _places(smaller)
    terms = [larger * place for place in places]
    steps = [
        f"{larger} * ({_sum(places)})",
        " + ".join(f"{larger} * {place}" for place in places),
        _sum(terms),
    ]
    while len(terms) > 1:
        terms = [terms[0] + terms[1], *terms[2:]]
        steps.append(_sum(terms))
    return " " + " = ".join(steps)


def _quotient(problem: Problem) -> str:
    """A line for each digit of the quotient that is not zero, then the problem with its answer."""
    left, divisor = problem.first, problem.second
    lines = [" ?"]  # `8914 / 64 = ?`: what follows are steps, not what the quotient equals
    for place in _places(left // divisor):
        multiple = divisor * place
        lines.append(f"{left} - {divisor} * {place} = {left} - {multiple} = {left - multiple}")
        left -= multiple
    return "\n".join([*lines, f"{problem} = {answer_of(problem)}"])


def _places(number: int) -> list[int]:
    """The place values of a number: 3,407 is 3000, 400 and 7."""
    text = str(number)
    return [int(digit) * 10 ** (len(text) - place) for place, digit in enumerate(text, start=1) if digit != "0"]


def _is_short(number: int) -> bool:
    """One digit, or one digit and zeros."""
    return len(_places(number)) <= 1


def _is_direct_quotient(dividend: int, divisor: int) -> bool:
    return divisor < 10 or dividend <= divisor  # noqa: PLR2004 one digit


def _sum(terms: list[int]) -> str:
    return " + ".join(map(str, terms))

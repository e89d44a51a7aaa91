"""Arithmetic as prompts and completions with worked steps, in the manner of Goat (Liu and Low, 2023, arXiv 2305.14201).

Sums, differences, products with one digit and quotients by one digit are learned as they are; longer products and
quotients are taken apart into such ones, and the result comes last. Each problem comes once.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hf_langcore.errors import InputError
from hf_langcore.instructions.phrasing import worded
from hf_langcore.instructions.working import Problem, answer_of, working_of

Wording = Literal["plain", "varied"]

OPERATIONS = ("+", "-", "*", "/")
_MOST_DIGITS = 18
_EXACT = 0.5  # share of quotients without a remainder
_CHUNK = 40  # bits drawn at a time
_NUMBER = re.compile(r"\d+")
_COMMUTATIVE = "+*"


@dataclass(frozen=True, slots=True)
class _Space:
    """Pairs of numbers: each from its own range."""

    operation: str
    first: range
    second: range

    def problems(self, generator: random.Random, *, negative: bool) -> Iterator[Problem]:
        """Every problem once, in random order; half of the quotients leave no remainder, as in Goat."""
        width, later = len(self.second), []
        for rank in _ranks(len(self.first) * width, generator):
            first, second = self.first[rank // width], self.second[rank % width]
            if self.operation == "/" and (second == 0 or first < second):
                continue
            if self.operation == "-" and first < second and not negative:
                continue
            problem = Problem(first, self.operation, second)
            if self.operation == "/" and generator.random() < _EXACT and first - first % second in self.first:
                later.append(problem)
                problem = Problem(first - first % second, "/", second)
            yield problem
        yield from later


def arithmetic_rows(
    count: int,
    *,
    operations: Sequence[str] = OPERATIONS,
    digits: tuple[int, int] = (1, 3),
    largest: int | None = None,
    seed: int = 0,
    exclude: Sequence[Mapping[str, Any]] = (),
    wording: Wording = "plain",
    decomposition: bool = True,
    negative: bool = False,
) -> list[dict[str, str]]:
    """Problems with their worked solutions, each problem once; the same seed gives the same rows in every Python version.

    The operations come in equal shares as long as each has problems left, and so do the lengths of numbers. Division is
    that of whole numbers, never by zero and never of a number by a larger one: `139 R 18` is 139 with remainder 18. About half
    of the quotients have no remainder.

    Args:
        count: Number of rows.
        operations: Any of "+", "-", "*", "/".
        digits: Fewest and most digits of the numbers that are reckoned with; 0 has one digit.
        largest: If given, numbers from 0 to this one, all equally likely, in place of `digits`.
        seed: Draws the problems.
        exclude: Rows whose problems must not come again, such as those of a test set. `3 + 4` and `4 + 3` count as the same
            problem here; two rows of one call may differ in the order only.
        wording: "plain": the prompt is `12 + 34 =`. "varied": a question in English, after which the completion restates the
            problem, as in Goat.
        decomposition: Whether products and quotients of longer numbers are worked out step by step; False for the result alone.
        negative: Whether a subtraction may have a negative result.

    Returns:
        Rows with `prompt`, `completion` (starts with a space, ends with the answer), `answer` and `operation`.

    Raises:
        InputError: An option is outside what is possible, or there are not so many problems.
    """
    _check(count, operations, digits, largest, wording)
    generator = random.Random(seed)
    taken = {_key(problem_of(row)) for row in exclude}
    spaces = {operation: _spaces(operation, digits, largest, negative=negative) for operation in operations}
    sources = {operation: _distinct(each, generator, taken, negative=negative) for operation, each in spaces.items()}
    problems = list(itertools.islice(_in_turn(list(sources.values())), count))
    if len(problems) < count:
        limit = f"from {digits[0]} to {digits[1]} digits" if largest is None else f"up to {largest:,}"
        raise InputError(
            f"{count:,} rows were asked for; with numbers {limit}, the operations {' '.join(operations)} and "
            f"{len(exclude):,} excluded rows there are {len(problems):,} problems. Allow larger numbers, or ask for fewer rows."
        )
    _shuffle(problems, generator)
    chooser = random.Random(f"wording {seed}")  # its own, so that problems do not depend on the wording
    return [_row(problem, wording, chooser, decomposition=decomposition) for problem in problems]


def arithmetic_split(
    train: int,
    test: int,
    *,
    operations: Sequence[str] = OPERATIONS,
    digits: tuple[int, int] = (1, 3),
    largest: int | None = None,
    seed: int = 0,
    test_seed: int = 0,
    wording: Wording = "plain",
    decomposition: bool = True,
    negative: bool = False,
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows to learn from, and rows of other problems to measure on; not even the order of a sum's numbers is shared.

    The test rows depend on `test_seed` alone: runs with different training rows are measured on the same problems.

    Args:
        train: Number of rows to learn from.
        test: Number of rows to measure on.
        operations: As in `arithmetic_rows`, and so are the options that follow.
        digits: Fewest and most digits.
        largest: Largest number, in place of `digits`.
        seed: Draws the training rows from the problems that the test rows leave.
        test_seed: Draws the test rows.
        wording: "plain" or "varied".
        decomposition: Whether longer products and quotients are worked out.
        negative: Whether results may be negative.

    Raises:
        InputError: An option is outside what is possible, or there are not so many problems.
    """

    def rows(count: int, seed: int, exclude: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        return arithmetic_rows(
            count,
            operations=operations,
            digits=digits,
            largest=largest,
            seed=seed,
            exclude=exclude,
            wording=wording,
            decomposition=decomposition,
            negative=negative,
        )

    held_out = rows(test, test_seed, ())
    return rows(train, seed, held_out), held_out


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The problem that a row states: the two numbers of its prompt, in their order, and its operation.

    Raises:
        InputError: The row was not made by `arithmetic_rows`.
    """
    numbers = _NUMBER.findall(str(row.get("prompt", "")))
    operation = row.get("operation")
    if len(numbers) != 2 or operation not in OPERATIONS:  # noqa: PLR2004 a pair
        raise InputError(
            f"Expected a row of arithmetic_rows, with two numbers in its prompt and an operation out of "
            f"{' '.join(OPERATIONS)}; got {dict(row)!r}."
        )
    return Problem(int(numbers[0]), str(operation), int(numbers[1]))


def _row(problem: Problem, wording: Wording, chooser: random.Random, *, decomposition: bool) -> dict[str, str]:
    plain = f"{problem} ="
    solution = working_of(problem) if decomposition else f" {answer_of(problem)}"
    prompt, completion = (plain, solution)
    if wording == "varied":
        prompt, completion = worded(problem, below(1 << _CHUNK, chooser)), f" {plain}{solution}"
    return {
        "prompt": prompt,
        "completion": completion,
        "answer": answer_of(problem),
        "operation": problem.operation,
    }


def _spaces(operation: str, digits: tuple[int, int], largest: int | None, *, negative: bool) -> list[_Space]:
    """One for each pair of lengths; without those in which every result would be negative or a quotient zero."""
    if largest is not None:
        return [_Space(operation, range(largest + 1), range(largest + 1))]
    lengths = range(digits[0], digits[1] + 1)
    ordered = operation == "/" or (operation == "-" and not negative)
    return [
        _Space(operation, _numbers(first), _numbers(second))
        for first in lengths
        for second in lengths
        if first >= second or not ordered
    ]


def _numbers(length: int) -> range:
    return range(10 ** (length - 1) if length > 1 else 0, 10**length)


def _distinct(
    spaces: Sequence[_Space], generator: random.Random, taken: set[Problem], *, negative: bool
) -> Iterator[Problem]:
    """Problems of random lengths; none twice, none whose key is taken."""
    sources = [space.problems(generator, negative=negative) for space in spaces]
    seen: set[Problem] = set()
    while sources:
        place = below(len(sources), generator)
        problem = next((each for each in sources[place] if each not in seen and _key(each) not in taken), None)
        if problem is None:
            del sources[place]
        else:
            seen.add(problem)
            yield problem


def _in_turn(sources: list[Iterator[Problem]]) -> Iterator[Problem]:
    """One of each source in turn, as long as it has some."""
    while sources:
        for source in list(sources):
            problem = next(source, None)
            if problem is None:
                sources.remove(source)
            else:
                yield problem


def _key(problem: Problem) -> Problem:
    """The problem with the smaller number first where the order does not matter."""
    first, operation, second = problem
    return Problem(second, operation, first) if operation in _COMMUTATIVE and second < first else problem


def _ranks(size: int, generator: random.Random) -> Iterator[int]:
    """0 to `size` - 1 in random order: Fisher and Yates' shuffle that remembers only what it has moved."""
    moved: dict[int, int] = {}
    for left in range(size, 0, -1):
        place = below(left, generator)
        yield moved.get(place, place)
        last = moved.pop(left - 1, left - 1)
        if place != left - 1:
            moved[place] = last


def _shuffle(problems: list[Problem], generator: random.Random) -> None:
    for left in range(len(problems), 1, -1):
        place = below(left, generator)
        problems[left - 1], problems[place] = problems[place], problems[left - 1]


def below(limit: int, generator: random.Random) -> int:
    """A whole number from 0 to `limit` - 1, made of `random()` alone: the one method whose values Python promises to keep."""
    drawn = 0
    for _ in range(1 + limit.bit_length() // _CHUNK + 1):  # at least 40 bits to spare, so that no number is favoured
        drawn = drawn << _CHUNK | int(generator.random() * (1 << _CHUNK))
    return drawn % limit


def _check(count: int, operations: Sequence[str], digits: tuple[int, int], largest: int | None, wording: str) -> None:
    if count < 1:
        raise InputError(f"count is a number of rows, at least 1; got {count}.")
    if not operations or len(set(operations)) < len(operations) or not set(operations) <= set(OPERATIONS):
        raise InputError(f"operations are some of {' '.join(OPERATIONS)}, each once; got {operations!r}.")
    if largest is not None and not 0 <= largest < 10**_MOST_DIGITS:
        raise InputError(f"largest is a whole number from 0 to one of {_MOST_DIGITS} digits; got {largest}.")
    if len(digits) != 2 or not 1 <= digits[0] <= digits[1] <= _MOST_DIGITS:  # noqa: PLR2004 a pair
        raise InputError(
            f"digits are the fewest and the most digits of a number, from 1 to {_MOST_DIGITS}, as in (1, 3); got {digits!r}."
        )
    if wording not in {"plain", "varied"}:
        raise InputError(f"wording is 'plain' or 'varied'; got {wording!r}.")

"""Arithmetic problems as questions in English; the two numbers always stand in the order in which they are reckoned."""

from __future__ import annotations

from hf_langcore.instructions.working import Problem

_SIGNS = {
    "+": ("+", "plus"),
    "-": ("-", "minus"),
    "*": ("*", "x", "×", "times"),  # noqa: RUF001 the sign of multiplication is meant
    "/": ("/", "÷", "divided by"),
}
_ALL = (
    "What is {problem}?",
    "Calculate {problem}.",
    "Compute {problem}",
    "Work out {problem}.",
    "How much is {problem}?",
    "{problem} = ?",
    "Please tell me the result of {problem}.",
    "Solve: {problem}",
    "I need the value of {problem}.",
    "What does {problem} come to?",
    "Can you evaluate {problem} for me?",
    "Find the answer to {problem}.",
)
_OWN = {
    "+": (
        "What is the sum of {first} and {second}?",
        "Add {first} and {second}.",
        "Find the total of {first} and {second}.",
    ),
    "-": (
        "Take {first} and subtract {second}.",
        "What is left of {first} without {second}?",
        "Reduce {first} by {second}.",
    ),
    "*": (
        "What is the product of {first} and {second}?",
        "Multiply {first} by {second}.",
        "Multiply {first} and {second}.",
    ),
    "/": (
        "Divide {first} by {second}.",
        "What is the quotient of {first} and {second}?",
        "How many times does {first} hold {second}?",
    ),
}


def worded(problem: Problem, choice: int) -> str:
    """One of the wordings of a problem: `choice` counts through them, and starts again after the last."""
    signs = _SIGNS[problem.operation]
    wordings = [(template, sign) for template in _ALL for sign in signs]
    wordings += [(template, "") for template in _OWN[problem.operation] * len(signs)]
    template, sign = wordings[choice % len(wordings)]
    stated = f"{problem.first} {sign} {problem.second}"
    return template.format(problem=stated, first=problem.first, second=problem.second)

"""How well arithmetic was done: whole answers that are right, and single digits that are right and in place.

Both figures are those that Goat reports. The first is all or nothing; the second shows progress long before any whole answer is
right, since a long result with one wrong digit still counts for most of its digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import datasets

from hf_langcore.errors import InputError
from hf_langcore.extras import require

_NUMBER = r"[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)"
_ANSWER = re.compile(rf"(?<![\w.,])({_NUMBER})(?:\s*R\s*(\d+))?(?![\w]|[.,]\d)(?!\s*R\b)")
_DIGIT = re.compile(r"\d")
_MINUS = "-"

_DESCRIPTION = (
    "Arithmetic: the share of answers that are right, and the mean share of digits that are right and in place. The "
    "answer of a text is what stands behind its last equals sign."
)
_INPUTS = """
Args:
    predictions (list of str): what a model wrote; worked steps may come before the answer.
    references (list of str): the answers, such as "46", "-7" or "139 R 18".
    operations (list of str, optional): the operation of each answer, for figures by operation.
Returns:
    exact_match, digit_match: shares from 0 to 1; malformed: predictions in which no answer is found; rows: their
    number; by_operation: operation -> the same figures.
"""


@dataclass(frozen=True, slots=True)
class ArithmeticMatch:
    """How many answers are right.

    Attributes:
        exact_match: Share of predictions whose answer is right, sign and remainder included.
        digit_match: Mean over the predictions of the share of digits that are right and in place.
        malformed: Predictions in which no answer is found, or several; they count as wrong in both shares.
        rows: Number of predictions.
        by_operation: Operation -> the same figures of its predictions; empty if no operations were given.
    """

    exact_match: float
    digit_match: float
    malformed: int
    rows: int
    by_operation: Mapping[str, ArithmeticMatch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result: whole number and remainder, as digits."""

    negative: bool
    number: str
    remainder: str


def arithmetic_match(
    predictions: Sequence[str], answers: Sequence[str], *, operations: Sequence[str] | None = None
) -> ArithmeticMatch:
    """Compare what a model wrote with the answers.

    The answer of a prediction is the one number behind its last equals sign, or in the whole text where there is
    none, with a remainder if it has one (`139 R 18`). Commas between thousands are ignored, and so are words around the
    number. Digits are compared place by place, units with units; a digit too many or too few counts as wrong, and
    where a number is negative its sign counts as one more digit. The digits of a remainder are compared likewise.

    Args:
        predictions: Texts that a model wrote.
        answers: The right answers, as many.
        operations: The operation of each, to have figures by operation.

    Raises:
        InputError: There are none, their numbers differ, one is no text, or an answer is no answer.
    """
    _check(predictions, answers, operations)
    wanted = [_required(number, text) for number, text in enumerate(answers)]
    found = [answer_in(text) for text in predictions]
    pairs = list(zip(found, wanted, strict=True))
    by_operation = (
        {
            name: _summary([pair for pair, own in zip(pairs, operations, strict=True) if own == name])
            for name in dict.fromkeys(operations or ())
        }
        if operations is not None
        else {}
    )
    return _summary(pairs, by_operation)


def answer_in(text: str) -> Answer | None:
    """The one answer behind the last equals sign of a text; None if there is none, or more than one."""
    found = _ANSWER.findall(text.rpartition("=")[2])
    if len(found) != 1:
        return None
    number, remainder = found[0]
    if len(_DIGIT.findall(text.rpartition("=")[2])) != len(_DIGIT.findall(number + remainder)):
        return None  # a decimal fraction, or digits inside a word
    return Answer(not number[0].isdigit(), number.lstrip("-\u2212").replace(",", ""), remainder)


def digit_share(found: Answer | None, wanted: Answer) -> float:
    """The share of places in which both answers have the same digit, 0 to 1."""
    if found is None:
        return 0.0
    ours, theirs = _places(found), _places(wanted)
    places = ours.keys() | theirs.keys()
    return sum(ours.get(place) == theirs.get(place) for place in places) / len(places)


def load_arithmetic_metric() -> Any:
    """An `evaluate.Metric` whose `compute(predictions=, references=)` gives these figures; it needs no network.

    Raises:
        MissingExtraError: `evaluate` is not installed.
    """
    evaluate = require("evaluate", extra="evaluate", feature="The arithmetic metric")

    class ArithmeticMetric(evaluate.Metric):  # type: ignore[name-defined,misc]
        """Exact match and digit match as hf_langcore.instructions.arithmetic_match measures them."""

        def _info(self) -> Any:
            text = datasets.Value("string")
            return evaluate.MetricInfo(
                description=_DESCRIPTION,
                citation="",
                inputs_description=_INPUTS,
                features=datasets.Features({"predictions": text, "references": text}),
            )

        def _compute(
            self, predictions: list[str], references: list[str], operations: list[str] | None = None
        ) -> dict[str, Any]:
            return asdict(arithmetic_match(predictions, references, operations=operations))

    return ArithmeticMetric()


def _summary(
    pairs: Sequence[tuple[Answer | None, Answer]], by_operation: Mapping[str, ArithmeticMatch] | None = None
) -> ArithmeticMatch:
    rows = len(pairs)
    return ArithmeticMatch(
        exact_match=sum(found == wanted for found, wanted in pairs) / rows,
        digit_match=sum(digit_share(found, wanted) for found, wanted in pairs) / rows,
        malformed=sum(found is None for found, _ in pairs),
        rows=rows,
        by_operation=by_operation or {},
    )


def _places(answer: Answer) -> dict[tuple[str, int], str]:
    """Place -> what stands there; a place is counted from the units, in the number or in the remainder."""
    places = {("number", place): digit for place, digit in enumerate(reversed(answer.number))}
    places |= {("remainder", place): digit for place, digit in enumerate(reversed(answer.remainder))}
    if answer.negative:
        places["sign", 0] = _MINUS
    return places


def _required(number: int, text: str) -> Answer:
    answer = answer_in(text)
    if answer is None:
        raise InputError(
            f"Answer {number} is {text!r}, in which no result is found. Expected a whole number, with a remainder where "
            "there is one: '46', '-7' or '139 R 18'."
        )
    return answer


def _check(predictions: Sequence[str], answers: Sequence[str], operations: Sequence[str] | None) -> None:
    given = {"predictions": predictions, "answers": answers, "operations": operations}
    counts = {}
    for name, texts in given.items():
        if texts is None:
            continue
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{name} is a list of strings; got {texts!r:.100}.")
        counts[name] = len(texts)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        raise InputError(f"There must be one answer for each prediction, in the same order; got {listed}.")
    if not counts["answers"]:
        raise InputError("There are no predictions to compare; give at least one with its answer.")

"""The words follow the intervals: the same table with other figures says something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hf_langcore.sinks import rows as names
from hf_langcore.sinks.rows import Figure, SinkRow
from hf_langcore.sinks.verdicts import Found, percent, verdicts

NEED, VALUE, HOLD, MATCH = (
    "Does the core need the sink dimensions?",
    "Is it the value or the removal?",
    "Does holding the sink bring perplexity back?",
    "Is it magnitude or profile?",
)


def around(value: float, half: float = 0.05) -> Figure:
    return Figure(value, value - half, value + half)


def found_with(**shares: Any) -> Found:
    """A table in which all shares are one tenth, besides those given by the name of the constant."""
    every = ("CORE", "WITHOUT", "ONLY", "HELD", "ACTIVATIONS_ZERO", "ACTIVATIONS_MEAN", "CORE_MEAN", "PART_MEAN")
    rows = {}
    for constant in (*every, "RANDOM", "MAGNITUDE", "PROFILE", "BOTH", "OUTSIDE"):
        name = getattr(names, constant)
        rows[name] = SinkRow(name, 10, 50.0, around(2.0), shares.get(constant, around(0.1)), overlap=0.03)
    return Found(rows, (7, 9), "massive")


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (around(0.9), "Most of the rise does not need them."),
        (around(0.2), "Most of the rise needs them."),
        (around(0.5), "neither is shown"),
        (Figure(0.9, 0.45, 1.2), "neither is shown"),
    ],
)
def test_what_is_left_without_the_sink(share: Figure, words: str) -> None:
    said = verdicts(found_with(WITHOUT=share, ONLY=around(0.3)))[NEED]
    assert words in said
    assert percent(share) in said
    assert "30 % (25 to 35)" in said
    assert "10 weights of the core on dimensions 7, 9" in said


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (around(0.9), "does not bring most of it back"),
        (around(0.2), "brings most of it back"),
        (around(0.5), "neither"),
    ],
)
def test_what_holding_does(share: Figure, words: str) -> None:
    assert words in verdicts(found_with(HELD=share))[HOLD]


@pytest.mark.parametrize(
    ("zero", "mean", "words"),
    [
        (around(0.9), around(0.0), "their constant value is used"),
        (around(0.1), around(0.6), "more harm than zeroing them"),
        (around(0.3), around(0.35), "no difference is shown"),
    ],
)
def test_zero_against_mean(zero: Figure, mean: Figure, words: str) -> None:
    assert words in verdicts(found_with(ACTIVATIONS_ZERO=zero, ACTIVATIONS_MEAN=mean))[VALUE]


def test_activations_that_are_not_massive_are_not_called_so() -> None:
    massive = found_with()
    assert "the massive activations of dimensions 7, 9" in verdicts(massive)[HOLD]
    assert "which are not massive, at all tokens" in verdicts(replace(massive, positions="all"))[HOLD]


def test_controls() -> None:
    assert "None of these makes half of the rise" in verdicts(found_with())[MATCH]
    said = verdicts(found_with(PROFILE=around(0.8)))[MATCH]
    assert "only share this with the core: matched in rows and columns." in said
    assert "With some seeds more than half" in verdicts(found_with(MAGNITUDE=Figure(0.5, 0.3, 0.7)))[MATCH]


def test_a_control_that_is_mostly_core_proves_nothing() -> None:
    found = found_with(BOTH=around(0.95), OUTSIDE=around(0.4))
    both = replace(found.rows[names.BOTH], overlap=0.52)
    said = verdicts(replace(found, rows={**found.rows, names.BOTH: both}))[MATCH]
    assert "None of these makes half of the rise" in said
    assert "52 % of those matched in rows, columns and magnitude" in said
    assert "make alone 40 % (35 to 45)" in said


def test_without_an_explosion_nothing_is_explained() -> None:
    found = found_with()
    for rise in (Figure(0.1, -0.1, 0.3), Figure(-0.2, -0.3, -0.1), None):
        flat = replace(found.rows[names.CORE], rise=rise)
        said = verdicts(replace(found, rows={**found.rows, names.CORE: flat}))
        assert list(said) == ["Is there an explosion?"]
        assert "nothing to be explained" in said["Is there an explosion?"]


def test_what_was_not_tested_is_said_to_be_so() -> None:
    found = found_with()
    rows = dict(found.rows)
    for name in (
        names.WITHOUT,
        names.ONLY,
        names.HELD,
        names.ACTIVATIONS_ZERO,
        names.ACTIVATIONS_MEAN,
        names.PART_MEAN,
    ):
        rows[name] = SinkRow(name, missing="there is none.")
    said = verdicts(Found(rows, (), "massive"))
    assert said[NEED] == said[HOLD] == "Not tested: there is none."
    assert "not tested, there is none." in said[VALUE]
    assert "Share of the rise" in said[MATCH]

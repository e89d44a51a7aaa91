"""What is left of what was above chance."""

from __future__ import annotations

import math

import pytest

from hf_langcore.knowledge import KnowledgeReport
from hf_langcore.knowledge.scores import FactScore, PairScore
from hf_langcore.recipes.lab.knowledge_tables import (
    MEASURES,
    Condition,
    Measured,
    is_above_chance,
    share_curves,
    share_left,
    share_table,
    verdicts,
)

VOCABULARY = 100


def state(*, facts: float, pairs: int, loss: float) -> Measured:
    """Twelve facts whose own prompt adds so many nats, so many of twelve pairs right."""
    texts = ("a", "b", "c", "d")
    listed = []
    for number in range(12):
        turned = texts[number % 4 :] + texts[: number % 4]
        listed.append(FactScore("en", "k", f"f{number}", turned, (facts - 2.0, -2.0, -2.0, -2.0)))
    of_pairs = [
        PairScore("en", "p", f"p{number}", ("ab", "ba"), (-1.0, -2.0 if number < pairs else -0.5))
        for number in range(12)
    ]
    return Measured(KnowledgeReport(tuple(listed), tuple(of_pairs)), {"en": loss, "fr": 99.0})


BASE = state(facts=2.0, pairs=12, loss=1.0)


def test_what_is_above_chance() -> None:
    assert all(is_above_chance(BASE, measure) for measure in MEASURES)
    ignorant = state(facts=0.0, pairs=6, loss=4.0)
    assert [measure for measure in MEASURES if is_above_chance(ignorant, measure)] == ["loss"]


def test_the_share_that_is_left() -> None:
    """Half of the lift, a third of the pairs above chance, half of the way to guessing; of the measured languages only."""
    after = Condition("core", 0.01, (state(facts=1.0, pairs=8, loss=(1.0 + math.log(VOCABULARY)) / 2),))
    assert share_left(BASE, after, "lift", VOCABULARY).value == pytest.approx(0.5)
    assert share_left(BASE, after, "facts right", VOCABULARY).value == pytest.approx(1.0)
    pairs = share_left(BASE, after, "pairs right", VOCABULARY)
    assert pairs.value == pytest.approx((8 / 12 - 0.5) / 0.5)
    assert pairs.low < pairs.value < pairs.high
    assert share_left(BASE, after, "loss", VOCABULARY).value == pytest.approx(0.5)
    seeds = Condition("random", 0.01, (state(facts=1.0, pairs=8, loss=2.0), state(facts=2.0, pairs=8, loss=3.0)))
    assert share_left(BASE, seeds, "lift", VOCABULARY).value == pytest.approx(0.75)
    loss = share_left(BASE, seeds, "loss", VOCABULARY)
    assert loss.low < loss.value < loss.high


def test_what_is_not_there_cannot_be_lost() -> None:
    ignorant = state(facts=0.0, pairs=6, loss=1.0)
    after = [Condition("core", 0.01, (state(facts=0.0, pairs=6, loss=4.0),))]
    assert share_left(ignorant, after[0], "facts right", VOCABULARY) is None
    lost = state(facts=0.0, pairs=6, loss=math.log(VOCABULARY))
    assert share_left(lost, after[0], "loss", VOCABULARY) is None
    row = share_table(ignorant, after, VOCABULARY).rows[0]
    assert [cell is None for cell in row] == [False, *[True] * 5, False]
    assert list(next(share_curves(ignorant, after, VOCABULARY)).lines) == ["loss"]
    said = verdicts(ignorant, after, VOCABULARY)
    assert "not above chance in: facts, accuracy; facts, lift in nats" in said[0]
    assert said[1].endswith("loss: at 1 %.")


def test_the_first_size_that_takes_more_than_half() -> None:
    found = [
        Condition("core", 0.01, (state(facts=1.5, pairs=8, loss=1.5),)),
        Condition("core", 0.02, (state(facts=0.5, pairs=7, loss=1.5),)),
    ]
    (said,) = verdicts(BASE, found, VOCABULARY)
    assert "lift in nats: at 2 %" in said
    assert "minimal pairs, accuracy: at 1 %" in said
    assert "loss: at no size" in said


def test_infinite_losses_and_broken_entries_leave_a_table() -> None:
    broken = Condition("core", 0.05, (state(facts=-math.inf, pairs=6, loss=math.inf),))
    assert share_left(BASE, broken, "lift", VOCABULARY) is None
    assert share_left(BASE, broken, "loss", VOCABULARY).value == -math.inf
    curve = next(share_curves(BASE, [broken], VOCABULARY))
    assert curve.lines[MEASURES["lift"]] == (100.0, None)

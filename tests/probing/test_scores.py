"""Figures of one cell: over seeds, with an interval over sentences."""

from __future__ import annotations

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.probing.scores import ProbeScore, Tally


def tally(share: float, *, sentences: int = 100, seeds: int = 1, start: int = 0) -> Tally:
    """Ten items a sentence, of which a random share is right."""
    found = Tally()
    draw = np.random.default_rng(start)
    for _ in range(seeds):
        truth = np.array(["a", "b"] * (sentences * 5))
        right = draw.random(len(truth)) < share
        predicted = np.where(right, truth, "c")
        found.add(truth, predicted, np.repeat(np.arange(sentences), 10), most_frequent="a")
    return found


def test_figures_by_hand() -> None:
    """F1 is averaged over the labels that occur, not over those that were only said."""
    found = Tally()
    groups = np.array([0, 0, 2, 2])
    found.add(["a", "a", "b", "b"], np.array(["a", "a", "b", "c"]), groups, most_frequent="b")
    found.add(["a", "b"], np.array(["b", "b"]), np.array([1, 4]), most_frequent="z")
    found.add_control(["x", "y", "x", "x"], np.array(["x", "x", "x", "y"]))
    score = found.score()
    assert score.by_seed == (0.75, 0.5)
    assert score.accuracy == 0.625
    assert score.macro_f1 == pytest.approx(((1 + 2 / 3) / 2 + (0 + 2 / 3) / 2) / 2)
    assert score.majority == 0.25
    assert score.control == 0.5
    assert score.selectivity == 0.125
    assert score.items == 3


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    found = [tally(0.7, sentences=60, start=start).score() for start in range(100)]
    assert 87 <= sum(one.low <= 0.7 <= one.high for one in found) <= 100
    assert all(one.low < one.accuracy < one.high for one in found)


def test_sentences_are_drawn_and_not_items() -> None:
    """Where all items of a sentence are right or wrong together, ten items say no more than one."""
    sentences, together = 50, Tally()
    right = np.repeat(np.arange(sentences) % 2 == 0, 10)
    truth = np.full(sentences * 10, "a")
    together.add(truth, np.where(right, "a", "b"), np.repeat(np.arange(sentences), 10), most_frequent="a")
    wide, narrow = together.score(), tally(0.5, sentences=sentences).score()
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_more_seeds_of_the_same_sentences_do_not_feign_more_sentences() -> None:
    """The same sentences are drawn for all seeds."""
    once, often = Tally(), Tally()
    truth = np.full(300, "a")
    predicted = np.where(np.repeat(np.random.default_rng(0).random(30) < 0.6, 10), "a", "b")
    for number in range(4):
        for one in (once, often)[number > 0 :]:
            one.add(truth, predicted, np.repeat(np.arange(30), 10), most_frequent="a")
    assert (once.score().low, once.score().high) == (often.score().low, often.score().high)


def test_json_values() -> None:
    score = tally(0.5, seeds=2).score()
    assert score.selectivity is None
    assert ProbeScore.from_dict(score.to_dict()) == score
    for name in score.to_dict():
        with pytest.raises(InputError, match="A score needs"):
            ProbeScore.from_dict({key: value for key, value in score.to_dict().items() if key != name})
    for wrong in (float("nan"), "0.5", True, None):
        with pytest.raises(InputError, match="A score needs"):
            ProbeScore.from_dict({**score.to_dict(), "accuracy": wrong})


def test_nothing_to_score() -> None:
    with pytest.raises(CorpusError, match="no test items"):
        Tally().score()

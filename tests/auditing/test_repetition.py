"""Pieces that follow themselves."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.auditing.repetition import RepetitionCheck, periodic_runs, repeated_phrases

SENTENCE = "The house by the river belongs to nobody. "
VERSES = "row the boat to town and sell the fish there "


def check(**options: Any) -> RepetitionCheck:
    return RepetitionCheck(**{"repeats": 5, "repeated_share": 0.5, **options})


@pytest.mark.parametrize(
    "text",
    [
        "I said the the the the the the the the cat.",
        "We go home again go home again go home again go home again go home again now.",
        "天气很好很好很好很好很好很好很好。",
        "วันนี้ดีมากดีมากดีมากดีมากดีมากดีมาก",
        "Ja " + SENTENCE * 4,
        "spam\nspam\tspam  spam spam spam\n",
        "The, the, the, the, THE, the, the, the, end.",
        "x" + "loremipsum" * 6,
    ],
)
def test_runs_are_found_in_any_script(kinds: Any, text: str) -> None:
    """Words, phrases, sentences, with and without spaces, whatever the case and the space between."""
    assert kinds(check(), text) == ["repeated_run"]


@pytest.mark.parametrize(
    "text",
    [
        "No, no, no! That is very very very good, ha ha ha, hahaha.",
        "Nooooooo!!!!!!!!! Aaaaargh.",
        "=========================== Title ---------------------------",
        "| --- | --- | --- | --- | --- | --- | --- |\n| 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |",
        "3.3333333333333333333333333 and 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        "哈哈哈哈、好。",
        "```\n" + "x = x + 1\n" * 12 + "```",
        SENTENCE * 2,
        "",
    ],
)
def test_emphasis_rulers_numbers_and_code_are_left_alone(kinds: Any, text: str) -> None:
    """What people write on purpose."""
    assert kinds(check(), text) == []


def test_the_threshold_counts(kinds: Any) -> None:
    """A run below the number of repeats is none."""
    text = "we sing " + "hallelujah " * 6
    assert kinds(check(repeats=6), text) == ["repeated_run"]
    assert kinds(check(repeats=8), text) == []


def test_a_text_that_says_itself_again(kinds: Any) -> None:
    """Phrases that come back out of order count by their share."""
    lines = [VERSES + word for word in ("gladly", "slowly", "proudly", "at noon", "today", "with friends")]
    assert kinds(check(), " ".join(lines)) == ["repeated_phrases"]
    assert kinds(check(repeated_share=0.95), " ".join(lines)) == []
    share, phrase = repeated_phrases(" ".join(lines))
    assert 0.5 < share < 0.8
    assert phrase in VERSES


def test_the_period_is_exact() -> None:
    """A run is where the text equals itself when shifted."""
    (run,) = [one for one in periodic_runs("xyabcabcabcabz", repeats=3) if one.period == 3]
    assert (run.start, run.length) == (2, 11)
    assert round(run.repeats, 2) == 3.67

"""Loops and empty texts are told from ordinary ones."""

from __future__ import annotations

import random

import pytest

from hf_langcore.replay.quality import flaw_of

ORDINARY = random.Random(0).choices(range(500), k=200)


@pytest.mark.parametrize(
    ("text", "tokens", "flaw"),
    [
        ("", [], "empty"),
        (" \n", [5, 6], "empty"),
        ("a", [7], None),
        ("ordinary", ORDINARY, None),
        ("ha ha ha", [1, 2] * 6, None),
        ("ha ha ha for ever", [1, 2] * 20, "repeating"),
        ("ends in a loop", ORDINARY[:130] + [4, 5, 6] * 30, "repeating"),
        ("loops in the middle", ORDINARY[:60] + [9] * 100 + ORDINARY[60:120], "repeating"),
        ("repeats a little", ORDINARY[:50] + ORDINARY[:10] + ORDINARY[50:100], None),
    ],
)
def test_flaws(text: str, tokens: list[int], flaw: str | None) -> None:
    """A loop is found wherever it is; short texts may repeat a word."""
    assert flaw_of(text, tokens) == flaw

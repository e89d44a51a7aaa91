"""Tokens learned on top of a cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.vocabulary.learning import learn


def test_the_most_frequent_neighbours_come_first() -> None:
    """And a new token takes part in later ones."""
    found = learn({("a", "b", "c"): 3, ("b", "c"): 2, ("a", "d"): 4}, "abcd", num_tokens=3, min_frequency=2)
    assert dict(found.parts) == {"bc": ("b", "c"), "ad": ("a", "d"), "abc": ("a", "bc")}
    assert found.steps == tuple(found.parts.values())


def test_too_rare_is_not_learned() -> None:
    """Fewer tokens than were asked for."""
    words = {("a", "b"): 2, ("c", "d"): 1}
    assert list(learn(words, "abcd", num_tokens=5, min_frequency=2).parts) == ["ab"]
    assert list(learn(words, "abcd", num_tokens=5, min_frequency=1).parts) == ["ab", "cd"]


def test_ties_go_by_characters() -> None:
    """Whatever the order of the words."""
    words = {("c", "d"): 2, ("a", "b"): 2}
    assert list(learn(words, "abcd", num_tokens=1, min_frequency=1).parts) == ["ab"]


def test_a_lacking_character_is_learned_before_it_is_joined() -> None:
    """It saves as many tokens as it has bytes, less one."""
    found = learn({("a", "猫"): 3, ("a", "b"): 5}, "ab", num_tokens=3, min_frequency=2)
    assert dict(found.parts) == {"猫": ("猫",), "ab": ("a", "b"), "a猫": ("a", "猫")}


def test_what_is_forbidden_is_neither_joined_nor_made() -> None:
    """No text turns into a special token."""
    words = {("<", "s>"): 9, ("x", "y"): 5, ("a", "b"): 2}
    assert list(
        learn(
            words, ["<", "s>", "x", "y", "a", "b", "<s>"], num_tokens=3, min_frequency=1, forbidden=["<s>", "x"]
        ).parts
    ) == ["ab"]


def test_a_step_to_a_token_that_is_there_counts_for_nothing() -> None:
    """It is taken, as other steps need it."""
    found = learn({("a", "b", "c"): 3}, ["a", "b", "c", "ab"], num_tokens=1, min_frequency=1)
    assert dict(found.parts) == {"abc": ("ab", "c")}
    assert found.steps == (("a", "b"), ("ab", "c"))


@settings(max_examples=25)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=12))
def test_counts_stay_right(words: dict[str, int]) -> None:
    """Every step is the one that counting from the beginning would take."""
    found = learn({tuple(word): count for word, count in words.items()}, "abc", num_tokens=6, min_frequency=1)
    cut = [[*word] for word in words]
    for one, other in found.steps:
        counts: dict[tuple[str, str], int] = {}
        for word, times in zip(cut, words.values(), strict=True):
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + times
        assert (one, other) == min(counts, key=lambda pair: (-counts[pair], pair))
        for word in cut:
            place = 0
            while place < len(word) - 1:
                if (word[place], word[place + 1]) == (one, other):
                    word[place : place + 2] = [one + other]
                place += 1

"""Rows that an earlier row says already."""

from __future__ import annotations

from typing import Any

from hf_langcore.auditing.duplicates import DuplicateCheck
from hf_langcore.auditing.parts import view_of

LONG = "The committee will meet again next week when the figures of the last quarter have come in and everybody has read them"


def look(*rows: Any, similarity: float = 0.8, form: Any = "text") -> list[tuple[int, str, str]]:
    check = DuplicateCheck(similarity=similarity)
    shaped = [{"text": row} if isinstance(row, str) else row for row in rows]
    views = [view_of(number, row, form=form) for number, row in enumerate(shaped)]
    return [(one.row, one.kind, one.detail) for view in views for one in check.examine(view)]


def test_the_same_words_are_an_exact_duplicate() -> None:
    """Whatever the case, the space and the punctuation; the first of them stays."""
    assert look("Yes, we can.", "No.", "yes we  can", "YES, WE CAN!") == [
        (2, "exact_duplicate", "like row 0"),
        (3, "exact_duplicate", "like row 0"),
    ]


def test_a_few_changed_words_are_a_near_duplicate() -> None:
    """In long rows only; short ones differ too much by one word."""
    found = look(LONG, LONG.replace("everybody", "someone"), similarity=0.6)
    assert [(row, kind) for row, kind, _ in found] == [(1, "near_duplicate")]
    assert found[0][2].startswith("like row 0 (similarity 0.")
    assert look("3 + 4 = 7", "3 + 5 = 8", "2 + 4 = 6") == []
    assert look(LONG, LONG.replace("everybody", "someone"), similarity=0.95) == []


def test_scripts_without_spaces() -> None:
    """Characters take the place of words."""
    chinese = "委员会下周将在上个季度的数字公布并且大家都读过以后再次开会讨论明年的预算。"
    assert [kind for _, kind, _ in look(chinese, chinese.replace("明年", "今年"), similarity=0.7)] == [
        "near_duplicate"
    ]


def test_other_texts_are_no_duplicates(clean: dict[str, list[str]]) -> None:
    """The documents of the built-in corpus are made of the same words and differ."""
    assert look(*(text for texts in clean.values() for text in texts)) == []


def test_who_says_it_matters() -> None:
    """The same words in other roles are another conversation; empty rows are not compared."""
    one = {"messages": [{"role": "user", "content": "yes"}, {"role": "assistant", "content": "no"}]}
    other = {"messages": [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "no"}]}
    assert look(one, other, form="messages") == []
    assert [kind for _, kind, _ in look(one, other, one, form="messages")] == ["exact_duplicate"]
    assert look("", "...", "") == []

"""Rows as pieces of text."""

from __future__ import annotations

from hf_langcore.auditing.parts import excerpt, prose, view_of


def test_texts_of_a_message() -> None:
    """Strings and lists of pieces; roles come along."""
    content = [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "three"}]}
    view = view_of(4, row, form="messages")
    assert [(part.name, part.role, part.text) for part in view.parts] == [
        ("messages[0]", "user", "one\n\ntwo"),
        ("messages[1]", "assistant", "three"),
    ]
    assert (view.number, view.problem) == (4, None)


def test_prose_is_without_code_and_addresses() -> None:
    """A fence that is never closed counts to the end."""
    text = "See `x = 1` at https://a.b/c?d=e or me@x.org:\n```py\ny\n```\nafter ```z"
    assert prose(text).split() == ["See", "at", "or", ":", "after"]
    assert prose("nothing here") == "nothing here"


def test_excerpts_are_short_and_on_one_line() -> None:
    """What surrounds the piece is shown as far as there is room; what cannot be printed is escaped."""
    text = "a" * 100 + " HERE " + "b" * 100
    shown = excerpt(text, 101, 105, width=40)
    assert shown.startswith("…a")
    assert shown.endswith("b…")
    assert "HERE" in shown
    assert len(shown) <= 42
    assert excerpt("one\n two\x07") == "one two\\x07"

from __future__ import annotations

from hf_langcore.hub.markdown import fence, model_link, table


def test_cells_cannot_break_a_table() -> None:
    """Bars are escaped, line breaks are spaces, and numbers stand to the right."""
    assert table(("a", "b"), [("x|y", 1), ("two\nlines", 2)], right=1).split("\n") == [
        "| a | b |", "| --- | ---: |", "| x\\|y | 1 |", "| two lines | 2 |",
    ]  # fmt: skip


def test_links_go_to_the_commit() -> None:
    assert model_link(None, "abc", otherwise="a folder") == "a folder"
    assert model_link("me/m", otherwise="") == "[`me/m`](https://huggingface.co/me/m)"
    assert (
        model_link("me/m", "abc", otherwise="") == "[`me/m`](https://huggingface.co/me/m/tree/abc) at revision `abc`"
    )


def test_code_is_fenced() -> None:
    assert fence("\nx = 1\n\n") == "```python\nx = 1\n```"

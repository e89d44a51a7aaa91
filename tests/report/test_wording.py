"""Paragraphs, facts and times."""

from __future__ import annotations

import math

import pytest

from hf_langcore.report.wording import breakable, duration, facts, paragraph, without_controls


def test_paragraphs_know_code_and_bold_and_nothing_else() -> None:
    assert paragraph("a **b** `c **d** <e>` <f> & **g") == (
        "a <strong>b</strong> <code>c **d** &lt;e&gt;</code> &lt;f&gt; &amp; **g"
    )
    assert paragraph("`alone") == "`alone"
    assert paragraph("**<script>**") == "<strong>&lt;script&gt;</strong>"


def test_facts_are_words() -> None:
    values = {
        "base_model": "m",
        "seeds": [1, 2],
        "tokens": {"en": 1000, "zh": None},
        "loss": 0.123456,
        "revision": 12345678,
        "frozen": False,
        "nothing": None,
        "empty": [],
        "worst": math.inf,
        "zero": 0,
    }
    assert dict(facts(values)) == {
        "base model": "m",
        "seeds": "1, 2",
        "tokens": "en: 1000; zh: none",
        "loss": "0.123",
        "revision": "12345678",
        "frozen": "no",
        "worst": "inf",
        "zero": "0",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, ""),
        (math.nan, ""),
        (0.44, "0.4 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (42, "42 s"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_controls_are_shown_and_line_breaks_stay() -> None:
    assert without_controls("a\x00\x1b[b\ud800\n\tc\x85") == "a\ufffd\ufffd[b\ufffd\n\tc\ufffd"


def test_long_names_may_be_parted() -> None:
    """After dots and underscores; signs of HTML stay signs."""
    assert str(breakable("model.layers.0.self_attn<b>")) == "model.<wbr>layers.<wbr>0.<wbr>self_<wbr>attn&lt;b&gt;"
    assert breakable("plain") == "plain"

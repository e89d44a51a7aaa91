"""Between bytes and text."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.auditing.encoding import EncodingCheck
from hf_langcore.auditing.parts import Part, View

WORDS = {
    "de": "Die schöne Straße führt über die Brücke.",
    "ru": "Учитель видел двух кошек.",
    "zh": "老师看见了两只猫。",
    "ar": "رأى المعلم قطتين.",
}


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_mojibake_is_found_in_one_sentence_of_many(kinds: Any, language: str, encoding: str) -> None:
    """UTF-8 that was read as another encoding, beside text that is right."""
    broken = WORDS[language].encode().decode(encoding, errors="ignore")
    assert kinds(EncodingCheck(), f"{WORDS['de']} {broken} {WORDS['zh']}") in (
        ["mojibake"],
        ["mojibake", "control_character"],
    )
    assert kinds(EncodingCheck(), f"{WORDS['de']} {WORDS[language]} {WORDS['zh']}") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The caf\ufffd is closed.", "replacement_character"),
        ("文件锟斤拷名", "replacement_character"),
        ("A bell\x07 rings.", "control_character"),
        ("half of an emoji \ud83d here", "control_character"),
        ("a bullet \uf0b7 of a PDF", "control_character"),
        ("two files\ufeff joined", "control_character"),
        ("bread&nbsp;and butter", "markup"),
        ("bread &#39;n&#39; butter", "markup"),
        ("one<br>two<br/>three", "markup"),
        ('<a href="x.html">link</a>', "markup"),
        ("the end</p></div>", "markup"),
        ("caf\\u00e9 ol\\u00e9", "escapes"),
        ("caf=C3=A9 and gar=C3=A7on", "escapes"),
    ],
)
def test_debris_is_found(kinds: Any, text: str, kind: str) -> None:
    """Each kind of leftover."""
    assert kinds(EncodingCheck(), text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "Tab\tand\nnew line\r\n, L'été à Ålesund, naïve façade, 5 °C, “quotes”…",
        "می‌خواهم کتاب‌ها را ببینم",  # noqa: RUF001
        "👨‍👩‍👧 family, 🇩🇪",
        "\ufeffA byte order mark in front is no damage.",
        "AT&T; Q&A; R&D, a & b; x &lt y",
        "if a < b and c > d: print(x<y>z)",
        "Use `<br>` and `&nbsp;`:\n```html\n<p>one</p><p>two</p>\n```",
        "<html><body><p>one</p><p>two &amp; three</p></body></html>",
        "Press <b> once.",
        "<think>short</think><answer>4</answer>",
        "100 %, 50%25, C:\\new\\user, \\nabla \\rho \\tau",
    ],
)
def test_what_is_meant_is_left_alone(kinds: Any, text: str) -> None:
    """Joiners, emoji, code, comparisons, documents that are HTML, paths and formulas."""
    assert kinds(EncodingCheck(), text) == []


def test_one_finding_per_kind_with_its_count() -> None:
    """The place is the first one, the score how many there are."""
    view = View(3, {}, (Part("prompt", "fine"), Part("completion", "a\ufffdb\ufffdc &amp; d")))
    found = list(EncodingCheck().examine(view))
    assert [(one.row, one.kind, one.part, one.score) for one in found] == [
        (3, "replacement_character", "completion", 2.0),
        (3, "markup", "completion", 1.0),
    ]
    assert found[0].detail == "a character that could not be decoded and 1 more"
    assert "a\ufffdb" in found[0].excerpt


def test_what_was_meant_is_guessed() -> None:
    """The detail of mojibake shows the repaired sentence."""
    (found,) = EncodingCheck().examine(View(0, {}, (Part("text", "Die schÃ¶ne Welt."),)))
    assert "schöne Welt" in found.detail

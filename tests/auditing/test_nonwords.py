"""Characters that are no words."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.auditing.nonwords import NonWordCheck

PROSE = "The committee will meet again next week, when the figures of the last quarter have come in. "


def check(no_language: float = 0.3) -> NonWordCheck:
    return NonWordCheck(no_language=no_language)


@pytest.mark.parametrize(
    ("piece", "kind"),
    [
        ("xkqv bnrtz zpwlq wkjhf gdsamn bvcpl kjhrt yfgwq xzjkh gfdlk jpoqw mnbzx", "random_characters"),
        ("qwpeori asldkfj zmxncb weoriu sldkfj qpwoei zxmcn asdfgh wqeruo lkjsdf", "random_characters"),
        ("d41d8cd98f00b204e9800998ecf8427e", "encoded_data"),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "encoded_data"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "encoded_data"),
        ("Q29tbWl0dGVlIG1lZXRzIHdlZWtseSBhbmQgZmlndXJlcyBjb21lIGlu", "encoded_data"),
        ("@#$%^&*!?~@%$#&^*!@", "symbols"),
        ("@# $% ^& *! ?~ @% $# &^", "symbols"),
    ],
)
def test_non_words_are_found_in_the_middle_of_prose(kinds: Any, piece: str, kind: str) -> None:
    """Each kind, alone and inside a text."""
    assert kinds(check(), piece) == [kind]
    assert kinds(check(), PROSE + piece + " " + PROSE) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        PROSE * 3,
        "今天的会议推迟到下周举行、因为上个季度的数字还没有出来。" * 3,
        "การประชุมจะจัดขึ้นอีกครั้งในสัปดาห์หน้าเมื่อมีตัวเลขของไตรมาสที่แล้ว",
        "கடந்த காலாண்டின் புள்ளிவிவரங்கள் வந்ததும் அடுத்த வாரம் குழு மீண்டும் கூடும்.",
        "ستجتمع اللجنة مرة أخرى الأسبوع المقبل عندما تصدر أرقام الربع الأخير.",
        "Wstrząs: Krzysztof Brzęczyszczykiewicz z Chrząszczyżewoszyc. Angstschweiß, Rechtsschutzversicherungsgesellschaften.",
        "1984: 12.5 % of 3,450 units; 17:30-18:45, 2021-03-04, +49 170 1234567, 314159265358979323846264338327950288",
        "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 6. Re1 b5 7. Bb3 d6 8. c3 O-O",
        "for (int i = 0; i < n; ++i) { x[i] += y[i]; } return std::move(x); // done",
        "SELECT a.id, b.name FROM t1 a LEFT JOIN t2 b ON a.id = b.id WHERE a.x > 3 AND b.y IS NOT NULL;",
        "| id | name | qty |\n|----|------|-----|\n| 1 | foo | 3 |\n=====================\n.......... 12",
        "See https://example.org/a/d41d8cd98f00b204e9800998ecf8427e?q=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4MDAx now.",
        "The hash is `9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`.",
        "AbstractSingletonProxyFactoryBeanImplementation2 getApplicationContextConfigurationBuilder",
        "Great!!!!!!!!!!!! 😀😀😀🎉🎉🎉🚀🚀🚀 ¡¿Qué?! (((((a))))) \"'[{()}]'\"",
        "x^2 + 2xy + y^2 = (x+y)^2, NaCl + H2O -> Na+ + Cl- + H2O",
        "",
    ],
)
def test_words_numbers_and_code_are_left_alone(kinds: Any, text: str) -> None:
    """Scripts, names, numbers, code, tables, addresses, emoji."""
    assert kinds(check(), text) == []


def test_the_threshold_counts(kinds: Any) -> None:
    """Above every probability nothing is random."""
    text = "xkqv bnrtz zpwlq wkjhf gdsamn bvcpl kjhrt yfgwq xzjkh gfdlk jpoqw mnbzx"
    assert kinds(check(0.3), text)
    assert not kinds(check(1.01), text)

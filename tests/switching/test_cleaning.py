"""What is in no language is blanked out, and nothing moves."""

from __future__ import annotations

import pytest

from hf_langcore.switching.cleaning import blanked


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("vor `x = 1` nach", "vor nach"),
        ("vor\n```python\nprint(1)\n```\nnach", "vor nach"),
        ("vor ```print(1)", "vor"),
        ("siehe https://example.org/a/b und a.b@example.org", "siehe und"),
        ("es gilt $a + b$ und $$c$$", "es gilt und"),
        ("ein <b>Wort</b>", "ein Wort"),
        ("cut \ufffd\ufffd", "cut"),
        ("so:\ndef add(a, b):\n    return a + b\nprint(add(1, 2))\nfertig", "so: fertig"),
        ("import numpy as np\nfrom os import path\nText", "Text"),
        ("for (int i = 0; i < n; i++) {\n}\nText", "Text"),
    ],
)
def test_code_formulas_and_addresses(text: str, left: str) -> None:
    found = blanked(text)
    assert len(found) == len(text)
    assert found.split() == left.split()
    assert all(now in {before, " "} for now, before in zip(found, text, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "Import duties rose sharply (by 5 %), the ministry said; exports fell.",
        "from the very beginning of the year it was cold",
        "If it rains, we stay at home.",
        "return to the old house",
        "The man (aged 5) saw (or heard) it.",
        "Es kostet 5 < 6 Euro (etwa).",
        "用 Python 写程序很有意思。",
    ],
)
def test_prose_is_left_alone(text: str) -> None:
    assert blanked(text) == text

"""Words, also where a script writes none."""

from __future__ import annotations

from hf_langcore.auditing.units import is_dense, units


def test_words_and_characters() -> None:
    """Marks stay with their letters; characters of dense scripts stand alone."""
    assert units("Hello, World! don't 3.5") == ["hello", "world", "don", "t", "3", "5"]
    assert units("我们去、北京。") == ["我", "们", "去", "北", "京"]
    assert units("நாட்டின் பெயர்") == ["நாட்டின்", "பெயர்"]
    assert units("¿Qué? “Ja” …") == ["qué", "ja"]


def test_dense_scripts() -> None:
    """By the majority of letters; nothing is not dense."""
    assert is_dense("我们去 ok")
    assert is_dense("สวัสดี")
    assert not is_dense("Peking 北京")
    assert not is_dense("한국어는 띄어 쓴다")
    assert not is_dense("123")

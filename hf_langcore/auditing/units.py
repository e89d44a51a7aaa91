"""Words, also where a script writes none: what repetitions and duplicates are counted in."""

from __future__ import annotations

import re

# Scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana and Han.
_DENSE = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_PUNCTUATION = (
    "!-/:-@\\[-`{-~\u00a1-\u00bf\u060c\u061b\u061f\u0964\u0965\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"
)
_UNIT = re.compile(rf"[{_DENSE}]|[^\s{_PUNCTUATION}{_DENSE}]+")
_DENSE_CHARACTER = re.compile(rf"[{_DENSE}]")


def units(text: str) -> list[str]:
    """The words of a text in lower case, single characters for scripts without spaces; no punctuation."""
    return _UNIT.findall(text.lower())


def is_dense(text: str) -> bool:
    """Whether most letters are of scripts without spaces between words, whose words are short."""
    return 2 * len(_DENSE_CHARACTER.findall(text)) > sum(character.isalpha() for character in text)

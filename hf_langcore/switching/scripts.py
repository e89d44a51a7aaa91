"""Which script letters are of, and which scripts languages are written in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

LATIN = "Latin"

# Of the languages that the identifier knows, those that are not written in Latin letters alone. Unicode's script names.
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["ru", "uk", "be", "bg", "mk", "mn", "kk", "ky", "tg", "ba", "tt"], ("Cyrillic",)),
    **dict.fromkeys(["sr", "uz", "uzs", "crh", "az", "tk"], ("Cyrillic", LATIN)),
    **dict.fromkeys(["ar", "fa", "ur", "ps", "ug", "sdh"], ("Arabic",)),
    "ku": ("Arabic", LATIN),
    **dict.fromkeys(["hi", "mr", "ne", "sa", "gom"], ("Devanagari",)),
    **dict.fromkeys(["bn", "as"], ("Bengali",)),
    **dict.fromkeys(["el", "grc"], ("Greek",)),
    **dict.fromkeys(["he", "hbo", "yi"], ("Hebrew",)),
    "zh": ("Han", "Bopomofo"),
    "ja": ("Han", "Hiragana", "Katakana"),
    "ko": ("Hangul", "Han"),
    "am": ("Ethiopic",),
    "gu": ("Gujarati",),
    "hy": ("Armenian",),
    "ka": ("Georgian",),
    "km": ("Khmer",),
    "kn": ("Kannada",),
    "lo": ("Lao",),
    "ml": ("Malayalam",),
    "my": ("Myanmar",),
    "or": ("Oriya",),
    "pa": ("Gurmukhi", "Arabic"),
    "si": ("Sinhala",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "th": ("Thai",),
    "dz": ("Tibetan",),
}
_NAMES = sorted({name for names in _SCRIPTS.values() for name in names} | {LATIN, "Cherokee", "Syriac", "Thaana"})
_OTHER = "other"
# Marks belong to the letters that they stand on or beside: vowel signs of Indic scripts, points of Arabic and Hebrew.
_RUN = regex.compile("|".join([rf"(?P<{name}>(?:[\p{{L}}&&\p{{{name}}}]\p{{M}}*)+)" for name in _NAMES]), regex.V1)
_COMMON_LETTER = regex.compile(r"[\p{L}&&[\p{Common}\p{Inherited}]]", regex.V1)
_REST = regex.compile(r"\p{L}[\p{L}\p{M}]*")
_CASED = frozenset({LATIN, "Cyrillic", "Greek", "Armenian"})
# Letters of an alphabet that one of these is worth, as words are short in them.
_WEIGHTS = {"Han": 3, "Hiragana": 2, "Katakana": 2, "Hangul": 2, "Ethiopic": 2}


@dataclass(frozen=True, slots=True)
class Run:
    """Letters of one script that follow each other.

    Attributes:
        script: Unicode's name of it, or "other".
        start: Position of the first letter.
        text: The letters with their marks.
    """

    script: str
    start: int
    text: str

    @property
    def weight(self) -> int:
        """Letters, those of dense scripts counted several times, so that words of all scripts weigh about the same."""
        return _WEIGHTS.get(self.script, 1) * sum(map(str.isalpha, self.text))

    @property
    def is_cased(self) -> bool:
        """Whether the script has capital letters."""
        return self.script in _CASED


def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts that a language (canonical code) is written in; Latin where nothing else is known."""
    return _SCRIPTS.get(language, (LATIN,))


def runs(text: str) -> Iterator[Run]:
    """The letters of a text by script; digits, punctuation, symbols and letters of no script are left out."""
    place = 0
    while found := _REST.search(text, place):
        first = _RUN.match(text, found.start())
        if first is None:
            if not _COMMON_LETTER.match(text, found.start()):
                yield Run(_OTHER, found.start(), text[found.start()])
            place = found.start() + 1
        else:
            yield Run(str(first.lastgroup), first.start(), first.group())
            place = first.end()

"""Runs of characters that are no words of any language: random letters, hashes and base64, symbols."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt, prose
from hf_langcore.language_id import no_language, windows

_WIDTH = 64
_FEWEST_LETTERS = 24
_FEWEST_IN_WORD = 3
_SUSPICIOUS = 0.02
_LATIN = re.compile(r"[A-Za-z]")
_ENCODED = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_SWITCHES = 0.35  # base64 changes between upper case, lower case and digits at half of its places, names at a quarter
_SYMBOL_RUN = re.compile(r"(?:[^\w\s]|_)(?:[^\w\s]|_|[ \t](?=[^\w\s]|_)){7,}")
_FEWEST_SYMBOLS = 8
_FEWEST_KINDS = 4
_MANY_KINDS = 10  # of any symbols: more than nested code and quotations end in
_RULER = frozenset("-=_*#~.|+:·•…<>─━│┃┌┐└┘├┤┬┴┼═║╔╗╚╝")  # rulers, tables, tables of contents
_FENCE = re.compile(r"[(){}\[\];,'\"]")  # the ends of nested code and quotations


class NonWordCheck(Check):
    """Finds runs of characters that carry no words.

    Args:
        no_language: Probability of "no language" from which 64 characters of letters count as random.
    """

    def __init__(self, *, no_language: float) -> None:
        self.no_language = no_language

    def examine(self, view: View) -> Iterable[Finding]:
        """The first run of characters that are no words."""
        for part in view.parts:
            text = prose(part.text)
            found = next(
                (each for look in (_encoded, self._random, _symbols) for each in look(view.number, part, text)), None
            )
            if found is not None:
                yield found
                return

    def _random(self, number: int, part: Part, text: str) -> Iterator[Finding]:
        """Windows whose Latin letters the language identifier takes for no language at all."""
        line = " ".join(text.split())
        worst, piece = _least_readable(line, _WIDTH)
        if _SUSPICIOUS < worst < self.no_language:  # the windows may have cut a short run in two
            worst, piece = _least_readable(line, _WIDTH // 2)
        if worst >= self.no_language:
            detail = f"letters that make no words (no language: {worst:.2f})"
            yield Finding(number, "non_words", "random_characters", part.name, detail, excerpt(piece), worst)


def _least_readable(line: str, step: int) -> tuple[float, str]:
    """The window that is most likely in no language, and how likely."""
    worst, piece = 0.0, ""
    for _, window in windows(line, _WIDTH, step):
        letters = " ".join(word for word in window.split() if _is_wordlike(word))
        if len(_LATIN.findall(letters)) >= _FEWEST_LETTERS and (value := no_language(letters)) > worst:
            worst, piece = value, window
    return worst, piece


def _is_wordlike(word: str) -> bool:
    """Whether a word should be readable: not a number, a date, a formula, nor a chess move."""
    letters = sum(map(str.isalpha, word))
    return letters >= _FEWEST_IN_WORD and letters >= len(word) / 2


def _encoded(number: int, part: Part, text: str) -> Iterator[Finding]:
    for match in (*_UUID.finditer(text), *_ENCODED.finditer(text)):
        piece = match.group()
        if _UUID.fullmatch(piece) or _is_hash(piece) or _switches(piece) >= _SWITCHES:
            detail = f"{len(piece)} characters of a hash or of encoded data"
            shown = excerpt(text, match.start(), match.end())
            yield Finding(number, "non_words", "encoded_data", part.name, detail, shown, float(len(piece)))


def _is_hash(piece: str) -> bool:
    """32 hexadecimal digits or more; a long number has no letters, a long word no digits."""
    letters = sum(map(str.isalpha, piece))
    return bool(_HEX.fullmatch(piece)) and 0 < letters < len(piece)


def _switches(piece: str) -> float:
    """Share of places at which upper case, lower case and digits change, where all three occur."""
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in piece if c.isalnum()]
    if set(kinds) != {"d", "l", "u"} or len(kinds) < 3 * len(piece) / 4:
        return 0.0
    return sum(left != right for left, right in itertools.pairwise(kinds)) / len(kinds)


def _symbols(number: int, part: Part, text: str) -> Iterator[Finding]:
    for match in _SYMBOL_RUN.finditer(text):
        every = [c for c in match.group() if not c.isspace() and _is_symbol(c)]
        odd = [c for c in every if c not in _RULER and not _FENCE.match(c)]
        if (len(odd) >= _FEWEST_SYMBOLS and len(set(odd)) >= _FEWEST_KINDS) or len(set(every)) >= _MANY_KINDS:
            detail = f"{len(every)} symbols in a row"
            shown = excerpt(text, match.start(), match.end())
            yield Finding(number, "non_words", "symbols", part.name, detail, shown, float(len(every)))


def _is_symbol(character: str) -> bool:
    """Whether a character is punctuation or a symbol: no emoji, no mark that is part of a letter."""
    category = unicodedata.category(character)
    return category[0] in "PS" and category not in {"So", "Sk"}

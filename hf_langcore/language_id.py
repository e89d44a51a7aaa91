"""Which language a text is in: py3langid, cut into windows so that a long text can be in several."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

import regex

from hf_langcore.errors import InputError
from hf_langcore.extras import require

NO_LANGUAGE = "zxx"
"""The identifier's label for text in no language, such as random letters."""

# What declarations and the identifier call the same language; regional varieties count as their standard.
_ALIASES = {
    "nb": "no", "nn": "no", "arz": "ar", "ary": "ar", "yue": "zh", "wuu": "zh", "cmn": "zh", "pcm": "en", "in": "id",
    "iw": "he", "ji": "yi", "fil": "tl", "sh": "hr",
}  # fmt: skip
_MACRO = {
    "eng": "en",
    "deu": "de",
    "ger": "de",
    "fra": "fr",
    "fre": "fr",
    "spa": "es",
    "rus": "ru",
    "zho": "zh",
    "ara": "ar",
}
_BREAK = re.compile(r"\s")
# Scripts whose letters say more than one of an alphabet, because words are short in them.
_DENSE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
_FEWEST_LETTERS = 20
# Written alike up to a few words, so that no identifier parts a few sentences of them.
_ALIKE = (frozenset({"hr", "bs", "sr"}),)


def canonical(code: str) -> str:
    """The code by which a language is compared: "zh-Hans" and "zh_CN" are zh, "nb" is no."""
    short = re.split(r"[-_]", code.strip().lower())[0]
    short = _MACRO.get(short, short)
    return _ALIASES.get(short, short)


@cache
def _identifier() -> Any:
    module = require("py3langid.langid", extra="audit", feature="Finding the language of a text")
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)


def require_known(codes: Sequence[str]) -> frozenset[str]:
    """The codes as they are compared.

    Raises:
        InputError: One of them is no language that the identifier knows.
    """
    known = {canonical(label) for label in _identifier().labels} - {NO_LANGUAGE}
    chosen = frozenset(map(canonical, codes))
    unknown = sorted(chosen - known)
    if unknown or not chosen:
        raise InputError(
            f"The languages {unknown or list(codes)} cannot be told apart from others. Expected codes out of: "
            f"{', '.join(sorted(known))}; or leave the check `language` out."
        )
    return chosen


def probabilities(text: str) -> dict[str, float]:
    """Language -> probability, varieties of a language added up; most likely first."""
    found: dict[str, float] = {}
    for label, value in _identifier().rank(text):
        code = canonical(label)
        found[code] = found.get(code, 0.0) + float(value)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def likely_languages(
    text: str, *, ratio: float, fewest_letters: int = _FEWEST_LETTERS, among: Collection[str] | None = None
) -> tuple[str, ...]:
    """The languages that a text may be in: those that are less than `ratio` times less likely than the likeliest one.

    The identifier takes close relatives for each other (Norwegian and Danish, Indonesian and Malay, Spanish and Galician):
    in 2 of 100 pieces of 60 characters and 1 of 100 of 100 characters, but hardly ever with a likelihood five times
    that of the right one. So a text is in another language than expected where the expected one is not among these. Digits
    and other signs are not looked at.

    Args:
        text: A piece of a text.
        ratio: At least 1.
        fewest_letters: Shorter texts may be in any language; half as many letters are enough where words are short.
        among: Codes that come into question; all that the identifier knows if None.

    Returns:
        Canonical codes, likeliest first; none where there are too few letters, or the text is in no language.
    """
    letters = "".join(c if c.isalpha() or not c.isascii() or c in " '-" else " " for c in text)
    count = sum(map(str.isalpha, letters))
    if count == 0 or count < fewest_letters // (2 if is_dense(letters) else 1):
        return ()
    chosen = None if among is None else {*among, NO_LANGUAGE}
    ranked = {code: value for code, value in probabilities(letters).items() if chosen is None or code in chosen}
    best = next(iter(ranked), NO_LANGUAGE)
    if best == NO_LANGUAGE:
        return ()
    found = [code for code, value in ranked.items() if value * ratio >= ranked[best] and code != NO_LANGUAGE]
    return tuple(dict.fromkeys([*found, *(code for one in found for code in sorted(_alike(one)))]))


def is_dense(text: str) -> bool:
    """Whether most letters are of scripts in which a word has one or two of them, such as Han and Hangul."""
    return 2 * len(_DENSE.findall(text)) > sum(map(str.isalpha, text))


def _alike(code: str) -> frozenset[str]:
    return next((group for group in _ALIKE if code in group), frozenset())


def no_language(text: str) -> float:
    """Probability that a text is in no language at all; meant for Latin letters, which the identifier knows best."""
    return float(dict(_identifier().rank(text)).get(NO_LANGUAGE, 0.0))


def windows(text: str, width: int, step: int | None = None) -> Iterator[tuple[int, str]]:
    """Pieces of about `width` characters and where they begin, cut at spaces where there are any near.

    A last piece of less than half the width joins the one before it.
    """
    start = 0
    while start < len(text):
        end = start + width
        if len(text) - end < width // 2:
            yield start, text[start:]
            return
        space = _BREAK.search(text, end, min(len(text), end + width // 4))
        end = space.start() if space else end
        yield start, text[start:end]
        start = end if step is None else start + step

"""Which language a text is in: py3langid, cut into windows so that a long text can be in several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

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

"""Paragraphs and facts as the page shows them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup, escape

from hf_langcore.report.numbers import short

_HOUR, _MINUTE = 3600, 60
# What may not stand in a page: controls, halves of pairs, no characters. Line breaks and tabs may.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def without_controls(text: str) -> str:
    """A text whose characters may all stand in a page; others are shown as the replacement character."""
    return _FORBIDDEN.sub("\ufffd", text)


def breakable(text: str) -> Markup:
    """A long name that may be parted after its dots and underscores, and nowhere else where that is enough."""
    pieces = re.split(r"(?<=[._/])(?=\w)", text)
    return Markup("<wbr>").join(pieces)  # escapes each


def paragraph(text: str) -> Markup:
    """Plain text with `code` and **bold**; anything else in it is text."""
    safe = str(escape(text))
    pieces = re.split(r"`([^`]+)`", safe)  # every second piece is code, and no asterisk in it means anything
    for number, piece in enumerate(pieces):
        bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", piece)
        pieces[number] = f"<code>{piece}</code>" if number % 2 else bold
    return Markup("".join(pieces))  # noqa: S704 escaped above


def facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and words, without what says nothing."""
    for name, value in values.items():
        if value not in (None, "", [], {}, ()):
            yield str(name).replace("_", " "), _words(value)


def duration(seconds: float) -> str:
    """A time such as 2 h 5 min, 3 min 20 s or 0.4 s; nothing for no time."""
    if not math.isfinite(seconds) or seconds <= 0:
        return ""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= _HOUR:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole >= _MINUTE else f"{whole} s"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, int):
        return str(value)  # seeds and revisions are not to be grouped
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return "none" if value is None else str(value)

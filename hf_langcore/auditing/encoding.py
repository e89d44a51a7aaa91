"""What goes wrong between bytes and text: mojibake, lost and stray characters, leftovers of markup and escapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from html.entities import html5
from typing import Any

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt, prose
from hf_langcore.extras import require

_END = "\n.!?\u3002\uff01\uff1f\u06d4\u0964"
_SENTENCE = re.compile(f"[^{_END}]+[{_END}]*")
_REPLACEMENT = re.compile(r"\ufffd|\ufffc|锟斤拷|烫烫烫|屯屯屯|ï¿½")
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]|(?<!^)\ufeff"
)
_ENTITY = re.compile(r"&(?:#\d{2,7}|#[xX][0-9a-fA-F]{2,6}|(\w{2,31}));")
_TAG = re.compile(
    r"</?(?:p|br|hr|div|span|a|b|i|u|em|strong|small|sup|sub|font|center|ul|ol|li|dl|dt|dd|table|thead|tbody|tr|td|th|"
    r"h[1-6]|img|iframe|script|style|blockquote|figure|figcaption|input|button|form|label|nobr|wbr|tt)"
    r"(\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>]+))*\s*/?>",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(r"\s*<(?:!doctype|html|\?xml|svg|head|body)\b", re.IGNORECASE)
_ESCAPE = re.compile(
    r"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|(?:=[0-9A-F]{2}){2}|(?:%[0-9A-F]{2}){2}|\\[nrt](?=[^a-z\W]|\\|\s|$))"
)
_FEWEST_ESCAPES = 2
_FEWEST_TAGS = 2
_BEYOND_REPAIR = 3  # unlikely pairs of characters in a sentence whose bytes are partly lost

Hit = tuple[int, int, str]
"""Start and end in the text, and what is there."""


class EncodingCheck(Check):
    """Finds texts that were decoded wrongly, and leftovers of the format that they were taken from.

    One character reference such as `&nbsp;` or one HTML tag with attributes counts, or two tags without; texts that
    are HTML documents do not.
    """

    def __init__(self) -> None:
        self._ftfy: Any = require("ftfy", extra="audit", feature="Finding text that was decoded wrongly")

    def examine(self, view: View) -> Iterable[Finding]:
        """One finding of each kind, with how often the row has it."""
        looks: dict[str, Callable[[str], Iterator[Hit]]] = {
            "mojibake": self._mojibake,
            "replacement_character": _lost,
            "control_character": _control,
            "markup": _markup,
            "escapes": _escapes,
        }
        for kind, look in looks.items():
            for part in view.parts:
                hits = list(look(part.text))
                if hits:
                    yield _finding(view.number, kind, part, hits)
                    break

    def _mojibake(self, text: str) -> Iterator[Hit]:
        """Sentence by sentence, since one that is right would keep a wrong one from being seen."""
        if text.isascii():
            return
        for match in _SENTENCE.finditer(text):
            piece = match.group()
            if not piece.isascii() and self._ftfy.is_bad(piece):
                fixed = self._ftfy.fix_encoding(piece)
                if fixed != piece:
                    yield match.start(), match.end(), f"meant is perhaps {excerpt(fixed, width=60)!r}"
                elif self._ftfy.badness.badness(piece) >= _BEYOND_REPAIR:
                    yield match.start(), match.end(), "letters that do not follow each other in any language"


def _markup(text: str) -> Iterator[Hit]:
    plain = prose(text)
    if _DOCUMENT.match(plain):
        return
    for match in _ENTITY.finditer(plain):
        if match.group(1) is None or f"{match.group(1)};" in html5:
            yield match.start(), match.end(), f"the character reference {match.group()}"
    tags = list(_TAG.finditer(plain))
    if len(tags) >= _FEWEST_TAGS or any(match.group(1) for match in tags):
        for match in tags:
            yield match.start(), match.end(), f"the tag {match.group()[:40]}"


def _lost(text: str) -> Iterator[Hit]:
    for match in _REPLACEMENT.finditer(text):
        yield match.start(), match.end(), "a character that could not be decoded"


def _control(text: str) -> Iterator[Hit]:
    for match in _CONTROL.finditer(text):
        yield match.start(), match.end(), f"the character U+{ord(match.group()):04X}, which no text has"


def _escapes(text: str) -> Iterator[Hit]:
    matches = list(_ESCAPE.finditer(prose(text)))
    if len(matches) >= _FEWEST_ESCAPES:
        for match in matches:
            yield match.start(), match.end(), f"the escape {match.group()}"


def _finding(number: int, kind: str, part: Part, hits: list[Hit]) -> Finding:
    start, end, detail = hits[0]
    more = f" and {len(hits) - 1} more" if len(hits) > 1 else ""
    text = part.text if kind not in {"markup", "escapes"} else prose(part.text)
    return Finding(number, "encoding", kind, part.name, detail + more, excerpt(text, start, end), float(len(hits)))

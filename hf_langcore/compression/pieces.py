"""Which parts of some bytes a tokenizer gives back exactly: those can be coded as tokens, the others stay bytes.

Tokenizers normalise, know no half surrogate pairs and no invalid UTF-8. What they do not give back character for character is
cut out, down to a few characters, and kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hf_langcore.data import encode
from hf_langcore.errors import InputError

_SMALLEST = 48  # characters; smaller parts are not worth their entries in the directory
_MORE_TOKENS = 16  # a tokenizer may put a space in front, but no text has many more tokens than bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes.

    Attributes:
        ids: Its tokens; None where it is kept as bytes.
        raw: The bytes; empty where there are tokens.
    """

    ids: tuple[int, ...] | None
    raw: bytes = b""


def split_pieces(tokenizer: Any, data: bytes, *, vocabulary: int) -> list[Piece]:
    """Cut bytes into runs that the tokenizer gives back exactly and runs that it does not.

    Args:
        tokenizer: Any callable with transformers' tokenizer interface; one without `decode` gives nothing back.
        data: Any bytes.
        vocabulary: Number of tokens that the model knows; ids from there on cannot be coded.

    Returns:
        Pieces in order; the bytes of two raw ones never touch.
    """
    if not callable(getattr(tokenizer, "decode", None)):
        return [Piece(None, data)] if data else []
    found: list[Piece] = []
    for piece in _parts(tokenizer, data.decode("utf-8", "surrogateescape"), vocabulary):
        if piece.ids is None and found and found[-1].ids is None:
            found[-1] = Piece(None, found[-1].raw + piece.raw)
        else:
            found.append(piece)
    return found


def text_of(tokenizer: Any, ids: list[int]) -> bytes:
    """The bytes that tokens stand for.

    Raises:
        InputError: The tokenizer cannot decode them.
    """
    try:
        return _decoded(tokenizer, ids).encode()
    except Exception as error:
        raise InputError(
            f"The compressed data holds tokens that the tokenizer cannot decode ({type(error).__name__}: {error}). "
            "It is damaged, or was made with another tokenizer."
        ) from error


def _parts(tokenizer: Any, text: str, vocabulary: int) -> Iterator[Piece]:
    if not text:
        return
    ids = _exact(tokenizer, text, vocabulary)
    if ids is not None:
        yield Piece(tuple(ids))
    elif len(text) < 2 * _SMALLEST:
        yield Piece(None, text.encode("utf-8", "surrogateescape"))
    else:
        middle = _middle(text)
        yield from _parts(tokenizer, text[:middle], vocabulary)
        yield from _parts(tokenizer, text[middle:], vocabulary)


def _exact(tokenizer: Any, text: str, vocabulary: int) -> list[int] | None:
    """Tokens that are decoded to exactly this text; None where there are none."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return None
    ids = encode(tokenizer, text)
    if not ids or len(ids) > size + _MORE_TOKENS or min(ids) < 0 or max(ids) >= vocabulary:
        return None
    return ids if _decoded(tokenizer, ids) == text else None


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _middle(text: str) -> int:
    """Where a text is cut in two: at a line or word near its middle, so that few tokens are broken."""
    half, quarter = len(text) // 2, len(text) // 4
    for mark, behind in (("\n", 1), (" ", 0)):
        place = text.rfind(mark, half - quarter, half + 1)
        if place > 0:
            return place + behind
    return half

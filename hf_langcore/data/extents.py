"""How many bytes of text tokens stand for: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# GPT-2's alphabet: printable signs stand for themselves, the other bytes for signs from 256 on.
_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTABLE]
_BYTE_OF_SIGN = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(_OTHERS)}

_REPLACEMENT = "\ufffd"  # what decoding makes of a character that was cut in two


def num_bytes(tokenizer: Any, text: str, ids: Sequence[int], kept: int) -> int | None:
    """UTF-8 bytes of the part of a text that its first tokens stand for.

    Args:
        tokenizer: What the text was encoded with.
        text: The whole text.
        ids: All its tokens, without special ones.
        kept: Number of tokens, from the first, whose text is counted.

    Returns:
        All bytes of the text where all tokens are kept; up to the cut where the tokenizer can tell exactly where that is, and
        else None: a token may end inside a character, and a space between two tokens may belong to either.
    """
    if not kept:
        return 0
    try:
        whole = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return None
    if kept >= len(ids):
        return len(whole)
    end = _end(tokenizer, text, ids, kept)
    return _bytes_of_pieces(tokenizer, whole, ids, kept) if end is None else len(text[:end].encode())


def _end(tokenizer: Any, text: str, ids: Sequence[int], kept: int) -> int | None:
    """Position in the text behind the last kept token."""
    offsets = _offsets(tokenizer, text, len(ids))
    if offsets is not None:
        before, after = max(end for _, end in offsets[:kept]), min(start for start, _ in offsets[kept:])
        if before > after:
            return None
        if before == after:
            return before
    # Offsets leave spaces out, or there are none: what the kept tokens say when they are decoded tells.
    said = _decoded(tokenizer, ids[:kept])
    if not said or said.endswith(_REPLACEMENT) or not text.startswith(said):
        return None
    return len(said) if offsets is None or before <= len(said) <= after else None


def _bytes_of_pieces(tokenizer: Any, whole: bytes, ids: Sequence[int], kept: int) -> int | None:
    """Bytes of the kept tokens where the names of all tokens, put together, are the text, byte for byte."""
    names = _names(tokenizer, ids)
    for read in (_byte_level, _byte_fallback):
        pieces = [read(name) for name in names]
        known = [piece for piece in pieces if piece is not None]
        said = b"".join(known)
        # A space may have been put in front of the text.
        surplus = len(said) - len(whole)
        if known and len(known) == len(pieces) and said in {whole, b" " + whole}:
            return len(b"".join(known[:kept])) - surplus
    return None


def _names(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    names = convert(list(ids)) if callable(convert) else []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _byte_level(name: str) -> bytes | None:
    """A token of a tokenizer such as GPT-2's, each sign of which stands for one byte."""
    found = [_BYTE_OF_SIGN.get(sign) for sign in name]
    known = [byte for byte in found if byte is not None]
    return bytes(known) if len(known) == len(found) else None


def _byte_fallback(name: str) -> bytes | None:
    """A token of a tokenizer such as Llama 2's: text with a mark for spaces, or a single byte such as <0xE4>."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
    return bytes.fromhex(byte[1]) if byte else name.replace("\u2581", " ").encode()


def _offsets(tokenizer: Any, text: str, expected: int) -> list[tuple[int, int]] | None:
    """Start and end of each token in the text; None where the tokenizer does not know."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    offsets = [(int(start), int(end)) for start, end in found]
    return offsets if len(offsets) == expected else None


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str | None:
    decode = getattr(tokenizer, "decode", None)
    if not callable(decode):
        return None
    try:
        said = decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):  # another interface
        return None
    return said if isinstance(said, str) else None

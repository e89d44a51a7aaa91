"""How long text is in tokens, and whether it comes back from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hf_langcore.data import encode
from hf_langcore.errors import CorpusError, UnsupportedModelError

_CHARACTERS = 100_000
_SPACE = "\u2581"  # how SentencePiece writes a space


@dataclass(frozen=True, slots=True)
class Lengths:
    """Text of one language.

    Attributes:
        tokens: Number of tokens.
        bytes: UTF-8 bytes.
        texts: Number of documents.
        identical: How many of them decoding gives back character for character; tokenizers that change case or spaces, or
            lack characters, do not give back all.
    """

    tokens: int
    bytes: int
    texts: int
    identical: int

    @property
    def tokens_per_byte(self) -> float:
        """What the language costs."""
        return self.tokens / self.bytes


def lengths(tokenizer: Any, texts: Iterable[str], *, old: Any = None) -> Lengths:
    """Count tokens and bytes of texts, 100,000 characters at most, and decode them again.

    Args:
        tokenizer: A tokenizer of transformers.
        texts: Documents.
        old: Another tokenizer; what it gives back, this one has to give back, too. Texts with characters that it lacked are
            let pass, because what it made of them is nothing to go by.

    Raises:
        CorpusError: There is no text.
        UnsupportedModelError: It does not.
    """
    tokens = size = count = identical = characters = 0
    for text in texts:
        kept = text[: _CHARACTERS - characters]
        characters += len(kept)
        ids = encode(tokenizer, kept)
        said = _said(tokenizer, ids)
        if old is not None and said != kept and not _is_as_before(said, _said(old, encode(old, kept)), kept, old):
            raise UnsupportedModelError(
                f"The extended tokenizer does not give back the text that it was given: {kept[:60]!r} became {said[:60]!r}. "
                "Its normaliser or decoder does not fit tokens that are put together; add words by tokenizer.add_tokens."
            )
        tokens, count = tokens + len(ids), count + 1
        size += len(kept.encode(errors="surrogatepass"))
        identical += said == kept
        if characters >= _CHARACTERS:
            break
    if not size:
        raise CorpusError("The texts that are to be measured are empty. Give at least one document of each language.")
    return Lengths(tokens, size, count, identical)


def _is_as_before(said: str, before: str, text: str, old: Any) -> bool:
    """Whether a text comes back as it did; that cannot be asked where the old vocabulary lacked characters of it."""
    normaliser = getattr(getattr(old, "backend_tokenizer", None), "normalizer", None)
    wanted = text if normaliser is None else normaliser.normalize_str(text)
    return said == before or bool({one for one in wanted if not one.isspace() and one != _SPACE} - set(before))


def _said(tokenizer: Any, ids: list[int]) -> str:
    said: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return said

"""Learn new tokens from text and write them into a tokenizer, so that it makes them of text by itself."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.vocabulary.learning import Learned, learn
from hf_langcore.vocabulary.writing import written

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_WORD = re.compile("\u2581+[^\u2581]*|[^\u2581]+")
_KINDS = ("BPE", "Unigram", "WordPiece")


@dataclass(frozen=True)
class LearnedTokens:
    """New tokens for a tokenizer.

    Attributes:
        tokenizer: A copy that has them.
        tokens: As the vocabulary writes them, the most useful first.
        first_id: Id of the first; the others follow.
        pieces: New token -> ids of the old tokens that stood for it before; none for characters that had none.
        num_merges: How many merges were appended; 0 in vocabularies without merges.
    """

    tokenizer: Any
    tokens: tuple[str, ...]
    first_id: int
    pieces: Mapping[str, tuple[int, ...]]
    num_merges: int


def learn_tokens(tokenizer: Any, texts: Iterable[str], *, num_tokens: int, min_frequency: int = 2) -> LearnedTokens:
    """Learn tokens from text, on top of how the tokenizer cuts it now.

    The old tokens keep their ids, their merges keep their order and come first. So a text is cut as before, and then new
    tokens take the place of old ones that stand together; text in which none of these stands is cut as before.

    - **BPE**: tokens and merges. Characters that the vocabulary lacks (a byte fallback such as Llama 2's) become tokens, too.
    - **Unigram**: a new token scores just above its parts together, so that it is taken where they were.
    - **WordPiece**: tokens only; the longest match takes them, also at the start of a longer word.

    Args:
        tokenizer: A fast tokenizer of transformers; it stays as it is.
        texts: Documents in the language that the tokens are for.
        num_tokens: How many.
        min_frequency: Times that a token has to occur in the texts.

    Raises:
        InputError: A number is none.
        CorpusError: The texts give fewer tokens, or there are none.
        UnsupportedModelError: The tokenizer is slow, or of another kind.
    """
    _require_whole(num_tokens=num_tokens, min_frequency=min_frequency)
    backend = fast_backend(tokenizer)
    state = json.loads(backend.to_str())
    cutter = _Cutter(backend, state)
    words = cutter.words(texts)
    if not words:
        raise CorpusError(
            "The texts are empty: there is nothing to learn tokens from. Pass documents of the language."
        )
    found = learn(
        words,
        cutter.ids,
        num_tokens=num_tokens,
        min_frequency=min_frequency,
        forbidden=cutter.forbidden,
        join=cutter.join,
    )
    if len(found.parts) < num_tokens:
        raise CorpusError(
            f"The texts give {len(found.parts):,} new tokens that occur at least {min_frequency} times, and {num_tokens:,} "
            "were asked for. Ask for fewer, lower min_frequency, or give more text."
        )
    made, first_id = written(state, found, cutter.ids)
    extended = copy.deepcopy(tokenizer)
    extended._tokenizer = type(backend).from_str(json.dumps(made))  # noqa: SLF001 the backend has no setter
    pieces = _pieces(found, cutter)
    merges = len(made["model"].get("merges", ())) - len(state["model"].get("merges", ()))
    return LearnedTokens(extended, tuple(found.parts), first_id, pieces, merges)


def fast_backend(tokenizer: Any) -> Any:
    """The tokenizer of the tokenizers library inside one of transformers.

    Raises:
        UnsupportedModelError: It has none, or one of a kind that cannot be extended.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not getattr(tokenizer, "is_fast", False) or backend is None:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so its vocabulary cannot be extended here. Load it with "
            "AutoTokenizer.from_pretrained(..., use_fast=True), or convert it to a tokenizer.json first."
        )
    kind = type(backend.model).__name__
    if kind not in _KINDS:
        raise UnsupportedModelError(
            f"The tokenizer is a {kind} model, and new tokens can be learned for {', '.join(_KINDS)}. tokenizer.add_tokens "
            "adds words that you name."
        )
    return backend


class _Cutter:
    """How a tokenizer cuts words, and what its vocabulary is made of."""

    def __init__(self, backend: Any, state: Mapping[str, Any]) -> None:
        self._backend = backend
        self._model: Mapping[str, Any] = state["model"]
        self._prefix: str = self._model.get("continuing_subword_prefix") or ""
        self.ids: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        unknown = self._model.get("unk_token")
        if self._model["type"] == "Unigram" and self._model.get("unk_id") is not None:
            unknown = self._model["vocab"][self._model["unk_id"]][0]
        self.unknown: int | None = self.ids.get(unknown) if unknown is not None else None
        special = {one["content"] for one in state["added_tokens"]}
        has_bytes = bool(self._model.get("byte_fallback"))
        self._bytes = {token for token in self.ids if has_bytes and _BYTE.fullmatch(token)}
        self.forbidden = special | self._bytes | ({unknown} if unknown is not None else set())
        self._is_known: dict[str, bool] = {}

    def join(self, one: str, other: str) -> str:
        """Two tokens as one."""
        return one + other.removeprefix(self._prefix)

    def words(self, texts: Iterable[str]) -> dict[tuple[str, ...], int]:
        """Words of the texts, as they are cut -> how often each occurs."""
        counted: Counter[str] = Counter()
        for text in texts:
            if not isinstance(text, str):
                raise CorpusError(f"Texts must be strings, got {type(text).__name__}. Pass a list of documents.")
            counted.update(self._split(text))
        words: Counter[tuple[str, ...]] = Counter()
        for word, count in counted.items():
            symbols = self._cut(word)
            if symbols:
                words[symbols] += count
        return dict(words)

    def bytes_of(self, character: str) -> tuple[int, ...]:
        """Ids of the tokens that stood for a character that the vocabulary lacks."""
        names = [f"<0x{byte:02X}>" for byte in character.removeprefix(self._prefix).encode()]
        if all(name in self._bytes for name in names):
            return tuple(self.ids[name] for name in names)
        return () if self.unknown is None else (self.unknown,)

    def _split(self, text: str) -> Iterator[str]:
        """The words in which the tokenizer looks for tokens; whole texts are parted at the marks for spaces."""
        backend = self._backend
        normalised = backend.normalizer.normalize_str(text) if backend.normalizer else text
        parts = (
            [(normalised, None)]
            if backend.pre_tokenizer is None
            else backend.pre_tokenizer.pre_tokenize_str(normalised)
        )
        for part, _ in parts:
            yield from _WORD.findall(part)

    def _cut(self, word: str) -> tuple[str, ...]:
        """The tokens of a word; a character without a token stands for itself."""
        tokens = tuple(token.value for token in self._backend.model.tokenize(word))
        if tokens and all(self._is_token(token) for token in tokens) and self._covers(tokens, word):
            return tokens
        if self._prefix or self._model.get("end_of_word_suffix"):
            return ()  # what the rest of the word would be cut into depends on the whole of it
        found: list[str] = []
        known = ""
        for character in word:
            if self._known(character):
                known += character
                continue
            found += [*self._tokens(known), character]
            known = ""
        return (*found, *self._tokens(known))

    def _tokens(self, part: str) -> list[str]:
        return [token.value for token in self._backend.model.tokenize(part)] if part else []

    def _known(self, character: str) -> bool:
        if character not in self._is_known:
            tokens = self._tokens(character)
            self._is_known[character] = bool(tokens) and all(map(self._is_token, tokens))
        return self._is_known[character]

    def _is_token(self, token: str) -> bool:
        return token in self.ids and self.ids[token] != self.unknown and token not in self._bytes

    def _covers(self, tokens: tuple[str, ...], word: str) -> bool:
        """Whether nothing of the word was dropped, as a vocabulary without an unknown token does with characters."""
        suffix = self._model.get("end_of_word_suffix") or ""
        said = tokens[0] + "".join(token.removeprefix(self._prefix) for token in tokens[1:])
        return said.removesuffix(suffix) == word


def _pieces(found: Learned, cutter: _Cutter) -> dict[str, tuple[int, ...]]:
    pieces: dict[str, tuple[int, ...]] = {}
    for token, parts in found.parts.items():
        if len(parts) == 1:
            pieces[token] = cutter.bytes_of(token)
        else:
            pieces[token] = tuple(
                one for part in parts for one in (pieces[part] if part in pieces else (cutter.ids[part],))
            )
    return pieces


def _require_whole(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {number!r}.")

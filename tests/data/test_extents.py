"""Bytes of the text behind tokens: exactly those, or none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_langcore.data import StartToken, cut_text
from hf_langcore.data.extents import num_bytes

TEXT = "Die Katze  sah\tzwei 中文 Bäume — 🌳🌳 und   lief."


def byte_level(*, trim: bool) -> Any:
    """Every byte a token, and some pairs of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if trim:
        from tokenizers import processors

        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT, "Die Katze lief und lief und lief."], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def words(*, lower: bool) -> Any:
    """Words and marks; spaces stand for nothing, and big letters are lost where `lower` is True."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="?"))  # noqa: S106 a token of a tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")  # noqa: S106 as above


class Pieces:
    """A tokenizer without offsets that splits into letters, with or without a decoder."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(sign) for sign in text]}


class Decoding(Pieces):
    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        return "".join(map(chr, ids))


def found(tokenizer: Any, text: str, kept: int) -> int | None:
    return num_bytes(tokenizer, text, tokenizer(text, add_special_tokens=False)["input_ids"], kept)


def test_whole_texts() -> None:
    """All tokens stand for the whole text, whatever the tokenizer knows; no tokens for none of it."""
    for tokenizer in (byte_level(trim=True), words(lower=True), Pieces()):
        count = len(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
        assert found(tokenizer, TEXT, count) == len(TEXT.encode())
        assert found(tokenizer, TEXT, 0) == 0
    assert found(Pieces(), "half a pair \ud83c", 13) is None


@pytest.mark.parametrize("trim", [True, False])
def test_bytes_are_counted_exactly(trim: bool) -> None:
    """Of a tokenizer whose tokens are bytes the truth is known, also inside a character."""
    tokenizer = byte_level(trim=trim)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    pieces = [tokenizer.convert_ids_to_tokens(one) for one in ids]  # one sign stands for one byte
    for kept in range(1, len(ids)):
        assert found(tokenizer, TEXT, kept) == sum(len(piece) for piece in pieces[:kept]), pieces[:kept]


@given(st.text(max_size=30), st.integers(1, 40))
def test_bytes_of_any_text(text: str, kept: int) -> None:
    """The truth, whatever the text."""
    tokenizer = BYTES
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    truth = sum(len(tokenizer.convert_ids_to_tokens(one)) for one in ids[:kept])
    assert found(tokenizer, text, min(kept, len(ids))) == truth


BYTES = byte_level(trim=True)


class Fallback:
    """Names as SentencePiece has them: a mark before words, bytes for what it does not know, and a space put in front."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(self.names)))}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.names[one] for one in ids]


def test_bytes_that_stand_for_themselves() -> None:
    """A cut inside a character is exact where every token says its bytes; where they are not the text nobody guesses."""
    names = ["\u2581a", "<0xE4>", "<0xB8>", "<0xAD>", "\u2581b"]
    assert [found(Fallback(*names), "a中 b", kept) for kept in range(6)] == [0, 1, 2, 3, 4, 6]
    assert [found(Fallback("a", *names[1:]), "a中 b", kept) for kept in range(6)] == [0, 1, 2, 3, 4, 6]
    assert found(Fallback("\u2581A", *names[1:]), "a中 b", 2) is None
    assert found(Fallback(*names[:3]), "a中 b", 2) is None
    assert found(Fallback("<unk>", "\u2581b"), "中 b", 1) is None


def test_gaps_between_words() -> None:
    """A space that no token stands for belongs to nobody: the text ends behind the last word, or it is not known."""
    assert found(words(lower=False), "Katze sah", 1) in {5, None}
    assert found(words(lower=True), "Katze.", 1) == 5, "offsets know what decoding has lost"
    assert found(words(lower=True), "Katze sah", 1) is None


def test_without_offsets() -> None:
    """Decoding tells; without it nothing does, and odd decoders are not believed."""
    assert found(Decoding(), "Bäume", 2) == 3
    assert found(Pieces(), "Bäume", 2) is None
    odd = Decoding()
    for said in ("Be", "", "B\ufffd", None, 5):
        odd.decode = lambda ids, said=said, **options: said  # type: ignore[method-assign]
        assert found(odd, "Bäume", 2) is None
        assert found(odd, "B\ufffdume", 2) is None
    odd.decode = lambda ids: "Bä"  # type: ignore[method-assign]
    assert found(odd, "Bäume", 2) is None


def test_offsets_and_decoding_agree() -> None:
    """Between two words offsets leave room, and decoding decides; outside of it decoding is wrong."""

    class Fast(Pieces):
        is_fast = True

        def __init__(self, said: str, offsets: list[tuple[int, int]]) -> None:
            self.said, self.offsets = said, offsets

        def __call__(self, text: str, *, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> Any:
            return {"input_ids": [0, 1], "offset_mapping": self.offsets}

        def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
            return self.said

    room = [(0, 1), (3, 4)]
    assert [found(Fast("a  b"[:end], room), "a  b", 1) for end in range(1, 5)] == [1, 2, 3, None]
    assert found(Fast("a", [(0, 2), (3, 4)]), "a  b", 1) is None
    assert found(Fast("", [(0, 1), (1, 4)]), "a  b", 1) == 1
    assert found(Fast("a", [(0, 1)]), "a  b", 1) == 1, "offsets of other tokens do not count"


def test_texts_of_a_language() -> None:
    """All documents together; the one that is cut decides whether it is known."""

    def cut(tokenizer: Any, texts: list[str], max_tokens: int | None = None) -> int | None:
        start = StartToken(1, "bos")
        return cut_text("en", texts, tokenizer, start=start, block_size=5, stride=2, max_tokens=max_tokens).num_bytes

    assert cut(Pieces(), ["Bäume", "中文"]) == 6 + 6
    assert cut(Pieces(), ["Bäume", "中文"], 5) == 6
    assert cut(Pieces(), ["Bäume", "中文"], 6) is None
    assert cut(Decoding(), ["Bäume", "中文"], 6) == 6 + 3
    assert cut(Decoding(), ["Bäume", "中文"], 100) == 12

"""Sentences, and blocks of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import CorpusError
from hf_langcore.recipes.lab.transfer_texts import (
    count_rows,
    first_rows,
    general_blocks,
    measured_texts,
    mixed,
    packed,
    sentences,
    shuffled,
)

TEXTS = {
    "a": ["".join(map(chr, range(33, 63))), "".join(map(chr, range(63, 93)))],
    "b": ["uvwxyz123456"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three", ["One.", " Two?", " Three"]),
        ("At 3.5 per cent. Then", ["At 3.5 per cent.", " Then"]),
        ("\u4e00\u3002\u4e8c\uff01\u4e09", ["\u4e00\u3002", "\u4e8c\uff01", "\u4e09"]),
        ("\u201c\u4e00\u3002\u201d\u4e8c\u3002", ["\u201c\u4e00\u3002\u201d\u4e8c\u3002"]),
        ("\u0915\u0964 \u0916", ["\u0915\u0964", " \u0916"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    """Put together they are the text."""
    assert sentences(text) == expected
    assert "".join(sentences(text)) == text


def test_first_rows_cut_the_last_document() -> None:
    documents = ["A. B. C.", "D. E."]
    assert count_rows(documents) == 5
    assert first_rows(documents, 4) == ["A. B. C.", "D."]
    assert first_rows(documents, 3) == ["A. B. C."]
    assert first_rows(documents, 0) == []
    assert first_rows(documents, 99) == documents


def test_shuffling_keeps_all_documents() -> None:
    documents = [str(number) for number in range(20)]
    assert sorted(shuffled(documents, 0), key=int) == documents
    assert shuffled(documents, 0) == shuffled(documents, 0) != shuffled(documents, 1)


def test_measured_text_is_of_whole_sentences(tokenizer: Any) -> None:
    """As many as fit, at least one; one token is one byte here."""
    texts = {"a": ["Abc. Def. Ghi.", "Jkl."]}
    assert measured_texts(texts, tokenizer, max_tokens=10) == {"a": ["Abc. Def."]}
    assert measured_texts(texts, tokenizer, max_tokens=1) == {"a": ["Abc."]}
    assert measured_texts(texts, tokenizer, max_tokens=None) == texts


def test_general_blocks_take_turns(tokenizer: Any) -> None:
    """One of each language, then the next; a short text drops out, and none is repeated."""
    blocks = general_blocks(TEXTS, tokenizer, 8, block_size=6, seed=0)
    own = {code: packed(code, shuffled(texts, 0), tokenizer, block_size=6) for code, texts in TEXTS.items()}
    expected = [own["a"][0], own["b"][0], own["a"][1], own["b"][1], own["a"][2]]
    assert torch.equal(blocks[:5], torch.stack(expected))
    assert len({tuple(block) for block in blocks.tolist()}) == 8
    with pytest.raises(CorpusError, match="mixed in"):
        general_blocks(TEXTS, tokenizer, 40, block_size=6, seed=0)


def test_mixed_blocks_follow_each_block() -> None:
    own, general = torch.tensor([[1, 1], [2, 2]]), torch.tensor([[5, 5], [6, 6], [7, 7], [8, 8]])
    assert mixed(own, general, 2)[:, 0].tolist() == [1, 5, 6, 2, 7, 8]


def test_too_little_text_is_named(tokenizer: Any) -> None:
    with pytest.raises(CorpusError, match="do not fill one block"):
        packed("a", ["abc"], tokenizer, block_size=64)

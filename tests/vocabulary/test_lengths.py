"""Text in tokens and bytes."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import CorpusError, UnsupportedModelError
from hf_langcore.vocabulary.lengths import Lengths, lengths
from hf_langcore.vocabulary.tokens import learn_tokens


def test_tokens_and_bytes_are_counted(make_tokenizer: Any) -> None:
    """One token per byte where the tokenizer has nothing better; and what does not come back is counted out."""
    found = lengths(make_tokenizer("byte level"), ["猫", "éé"])
    assert found == Lengths(tokens=7, bytes=7, texts=2, identical=2)
    assert found.tokens_per_byte == 1.0
    assert lengths(make_tokenizer("word piece"), ["a  b", "a b"]).identical == 1


def test_long_texts_are_cut(make_tokenizer: Any) -> None:
    """At 100,000 characters of all documents."""
    assert lengths(make_tokenizer("byte level"), ["x" * 60_000] * 3).bytes == 100_000


def test_no_text_no_length(make_tokenizer: Any) -> None:
    with pytest.raises(CorpusError, match="empty"):
        lengths(make_tokenizer("byte level"), ["", ""])


def test_text_has_to_come_back(make_tokenizer: Any) -> None:
    """Where the old tokenizer gives it back; what it loses, the new one may lose as well."""
    old, other = make_tokenizer("byte level"), make_tokenizer("word piece")
    with pytest.raises(UnsupportedModelError, match="does not give back"):
        lengths(other, ["a  b"], old=old)
    assert lengths(other, ["a  b"], old=other).identical == 0


@pytest.mark.parametrize("kind", ["unigram", "no unknown"])
def test_lacking_characters_may_be_learned_in_part(make_tokenizer: Any, kind: str) -> None:
    """Text with characters that are still unknown comes back as it did before in neither tokenizer."""
    old, texts = make_tokenizer(kind), ["\u732b" * 9 + "\u72d7"]
    new = learn_tokens(old, texts, num_tokens=2, min_frequency=4).tokenizer
    assert lengths(new, texts, old=old).identical == 0

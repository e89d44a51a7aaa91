"""New tokens in tokenizers of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer

from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.vocabulary.tokens import fast_backend, learn_tokens


def ids_of(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_merges_reach_every_new_token(
    make_tokenizer: Any, chinese: list[str], english: list[str], kind: str, tmp_path: Path
) -> None:
    """Shorter text in the language, the old cut elsewhere, the same after saving; the old tokenizer is untouched."""
    old = make_tokenizer(kind, "<added>")
    before = old.backend_tokenizer.to_str()
    learned = learn_tokens(old, chinese, num_tokens=12)
    new = learned.tokenizer
    assert old.backend_tokenizer.to_str() == before
    assert (learned.first_id, len(new)) == (len(old), len(old) + 12)
    for text in chinese:
        assert len(ids_of(new, text)) < len(ids_of(old, text)) / 1.4
        assert new.decode(ids_of(new, text)) == text
    for text in (*english, "<added> the cat"):
        assert ids_of(new, text) == ids_of(old, text)
    used = {one for text in chinese for one in ids_of(new, text)}
    made_of = {part for token in learned.tokens for part in _parts(new, token)}
    assert all(new.convert_tokens_to_ids(token) in used or token in made_of for token in learned.tokens)
    new.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert [ids_of(again, text) for text in chinese + english] == [ids_of(new, text) for text in chinese + english]


def _parts(tokenizer: Any, token: str) -> set[str]:
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return {part for one, other in merges if one + other == token for part in (one, other)}


def test_pieces_are_what_stood_there_before(make_tokenizer: Any, chinese: list[str]) -> None:
    """In order; bytes for characters that had no token."""
    old = make_tokenizer("byte level")
    learned = learn_tokens(old, chinese, num_tokens=12)
    for token, ids in learned.pieces.items():
        assert "".join(old.convert_ids_to_tokens(list(ids))) == token
    old = make_tokenizer("byte fallback")
    learned = learn_tokens(old, chinese, num_tokens=12)
    for token, ids in learned.pieces.items():
        assert old.decode(list(ids)).strip() == token.replace("\u2581", "")
    assert learned.num_merges < len(learned.tokens)  # characters need none


def test_the_old_cut_comes_first(make_tokenizer: Any, english: list[str]) -> None:
    """Taking new tokens apart gives back the old cut: also where old and new tokens are of one language."""
    old = make_tokenizer("byte level")
    learned = learn_tokens(old, english, num_tokens=8)
    for text in english:
        opened: list[int] = []
        for one in ids_of(learned.tokenizer, text):
            token = learned.tokenizer.convert_ids_to_tokens(one)
            opened += learned.pieces.get(token, (one,))
        assert opened == ids_of(old, text)
        assert len(ids_of(learned.tokenizer, text)) < len(opened)


@pytest.mark.parametrize("kind", ["unigram", "word piece"])
def test_vocabularies_without_merges(make_tokenizer: Any, english: list[str], kind: str, tmp_path: Path) -> None:
    """Scores just above the parts, or the longest match; an added token keeps its id."""
    old = make_tokenizer(kind, "<added>")
    learned = learn_tokens(old, english, num_tokens=8)
    assert learned.num_merges == 0
    assert learned.tokenizer.convert_tokens_to_ids("<added>") == old.convert_tokens_to_ids("<added>")
    assert learned.first_id == len(old)
    for text in (*english, "a goat <added>"):
        cut = learned.tokenizer.tokenize(text)
        assert learned.tokenizer.decode(ids_of(learned.tokenizer, text)) == old.decode(ids_of(old, text))
        assert len(cut) < len(old.tokenize(text)) or text not in english
    assert any(token in learned.tokenizer.tokenize(english[0]) for token in learned.tokens)
    learned.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert ids_of(again, english[0]) == ids_of(learned.tokenizer, english[0])


def test_unigram_learns_lacking_characters(make_tokenizer: Any, chinese: list[str]) -> None:
    """What was unknown comes back."""
    old = make_tokenizer("unigram")
    learned = learn_tokens(old, chinese, num_tokens=22)
    assert "<unk>" in old.tokenize(chinese[0]) or old.unk_token_id is None
    assert learned.tokenizer.decode(ids_of(learned.tokenizer, chinese[0])).strip() == chinese[0]


def test_characters_that_no_token_stood_for(make_tokenizer: Any, chinese: list[str]) -> None:
    """A vocabulary without bytes and unknown token drops them: tokens of several have no pieces."""
    old = make_tokenizer("no unknown")
    learned = learn_tokens(old, chinese, num_tokens=30)
    assert any(len(token) > 1 for token in learned.tokens)
    assert set(learned.pieces.values()) == {()}
    assert learned.tokenizer.decode(ids_of(learned.tokenizer, chinese[0])) == chinese[0]


def test_word_piece_keeps_its_prefix(make_tokenizer: Any) -> None:
    """Inner tokens are joined without the marks of their second part."""
    learned = learn_tokens(make_tokenizer("word piece"), ["bava dava kava"] * 3, num_tokens=2)
    assert learned.tokens == ("##av", "##ava")
    assert all("##" not in token[2:] for token in learned.tokens)


def test_special_tokens_are_not_made_of_text(make_tokenizer: Any) -> None:
    """However often their characters stand in the text."""
    learned = learn_tokens(make_tokenizer("byte level"), ["x<s>y z</s> a<s>b"] * 9, num_tokens=3)
    assert not {"<s>", "</s>"} & set(learned.tokens)
    assert learned.tokenizer.convert_tokens_to_ids("<s>") == 0
    merges = json.loads(learned.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert not any("".join(pair) in {"<s>", "</s>"} for pair in merges)


def test_marks_for_spaces_stay_in_front(make_tokenizer: Any) -> None:
    """No token of several words where the tokenizer itself parts no words."""
    learned = learn_tokens(make_tokenizer("byte fallback"), ["the mat the mat the mat"] * 5, num_tokens=3)
    assert all("\u2581" not in token[1:] for token in learned.tokens)


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, CorpusError, "empty"),
        (["", " "], {}, CorpusError, "0 new tokens|empty"),
        (["ab"], {}, CorpusError, "fewer"),
        ([3], {}, CorpusError, "must be strings"),
        (["ab"], {"num_tokens": 0}, InputError, "num_tokens must be"),
        (["ab"], {"num_tokens": True}, InputError, "num_tokens must be"),
        (["ab"], {"min_frequency": 0}, InputError, "min_frequency must be"),
    ],
)
def test_wrong_input_is_named(
    make_tokenizer: Any, texts: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        learn_tokens(make_tokenizer("byte level"), texts, **{"num_tokens": 5, **options})


def test_other_tokenizers_are_refused(make_tokenizer: Any, tokenizer: Any) -> None:
    """One that is not fast, one without pieces."""
    with pytest.raises(UnsupportedModelError, match="not a fast tokenizer"):
        fast_backend(tokenizer)
    with pytest.raises(UnsupportedModelError, match="WordLevel"):
        fast_backend(make_tokenizer("word level"))
    assert fast_backend(GPT2Tokenizer())

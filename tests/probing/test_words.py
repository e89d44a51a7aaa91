"""Which tokens belong to which word."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.probing.words import SpecialTokens, locate_words, special_tokens, word_tokens
from tests.conftest import ByteTokenizer
from tests.probing.conftest import plain_sentence

BARE = SpecialTokens((), ())


def pieces(tokenizer: Any, sentence: Any, language: str = "en") -> list[list[str]]:
    """The tokens of each word, as text."""
    found = word_tokens(tokenizer, sentence, language, special=BARE, max_tokens=100)
    return [[tokenizer.convert_ids_to_tokens(found.ids[place]) for place in places] for places in found.positions]


def slices(sentence: Any, language: str) -> list[str]:
    text, spans = locate_words(sentence, language)
    return [text[begin:end] for begin, end in spans]


def test_words_stand_where_the_text_has_them() -> None:
    """The second "a" is not the first, although both could be found at the first place."""
    sentence = plain_sentence("a", "cat", ",", "a", "dog", text=" a cat, a  dog")
    text, spans = locate_words(sentence, "en")
    assert text == " a cat, a  dog"
    assert spans == [(1, 2), (3, 6), (6, 7), (8, 9), (11, 14)]


@pytest.mark.parametrize(
    "text", [None, "a quite different text", "a cat", "a cat and dog", "dog cat a", "a cat dog !"]
)
def test_words_are_joined_where_the_text_has_others(text: str | None) -> None:
    sentence = plain_sentence("a", "cat", "dog", text=text)
    assert locate_words(sentence, "en") == ("a cat dog", [(0, 1), (2, 5), (6, 9)])
    assert locate_words(sentence, "zh_TW") == ("acatdog", [(0, 1), (1, 4), (4, 7)])
    assert locate_words(sentence, "th")[0] == locate_words(sentence, "ja-Hira")[0] == "acatdog"


def test_words_of_a_multiword_token() -> None:
    """Parts that make up the form stand side by side; others all stand for all of it."""
    spanish = plain_sentence("Da", "me", "lo", text="Dame lo", contractions=((0, 2, "Dame"),))
    assert slices(spanish, "es") == ["Da", "me", "lo"]
    german = plain_sentence("geht", "zu", "der", "Tür", text="geht zur Tür", contractions=((1, 3, "zur"),))
    assert slices(german, "de") == ["geht", "zur", "zur", "Tür"]
    without_text = plain_sentence("geht", "zu", "der", "Tür", contractions=((1, 3, "zur"),))
    assert locate_words(without_text, "de")[0] == "geht zur Tür"


def test_bytes_of_one_character(byte_tokenizer: Any) -> None:
    """Each byte of a character belongs to its word; blanks belong to none."""
    assert [len(one) for one in pieces(byte_tokenizer, plain_sentence("é", "ab", text="é ab"))] == [2, 2]
    chinese = plain_sentence("美國", "的", text="美國的")
    assert [len(one) for one in pieces(byte_tokenizer, chinese, "zh")] == [6, 3]


def test_a_token_of_two_words_belongs_to_both(merging_tokenizer: Any) -> None:
    sentence = plain_sentence("end", "of", "the", "day", text="end of the day")
    assert pieces(merging_tokenizer, sentence) == [["e", "n", "d"], ["of the"], ["of the"], ["d", "a", "y"]]


def test_words_of_one_multiword_token_share_its_tokens(merging_tokenizer: Any) -> None:
    sentence = plain_sentence("x", "an", "dem", text="x am", contractions=((1, 3, "am"),))
    assert pieces(merging_tokenizer, sentence) == [["x"], ["a", "m"], ["a", "m"]]


def test_the_mark_of_a_space_is_no_part_of_a_word(sentence_piece_tokenizer: Any) -> None:
    """Unless the word has nothing else."""
    chinese = plain_sentence("美國", "的", text="美國的")
    assert pieces(sentence_piece_tokenizer, chinese, "zh") == [["美國"], ["的"]]
    english = plain_sentence("the", "cat", text="the cat")
    assert pieces(sentence_piece_tokenizer, english) == [["\u2581the"], ["\u2581c", "at"]]
    mark = plain_sentence("\u2581", "的", text="\u2581的")
    assert pieces(sentence_piece_tokenizer, mark, "zh")[0] != []


def test_words_without_tokens_are_counted(word_piece_tokenizer: Any) -> None:
    """The tokenizer drops the control character."""
    sentence = plain_sentence("cat", "\u0001", "sees", text="cat \u0001 sees")
    found = word_tokens(word_piece_tokenizer, sentence, "en", special=BARE, max_tokens=9)
    assert [len(places) for places in found.positions] == [1, 0, 1]
    assert (found.words_cut, found.words_without_tokens) == (0, 1)


def test_sentences_are_cut_at_the_context(byte_tokenizer: Any) -> None:
    """A word that loses one of its tokens is left out, and so are those after it."""
    sentence = plain_sentence("ab", "cd", "ef", text="ab cd ef")
    special = SpecialTokens((1,), (7, 8))
    for room, kept in ((8, 3), (7, 2), (5, 2), (4, 1), (1, 0)):
        found = word_tokens(byte_tokenizer, sentence, "en", special=special, max_tokens=room + 3)
        assert found.ids[0] == 1
        assert found.ids[-2:] == (7, 8)
        assert len(found.ids) == room + 3
        assert sum(map(bool, found.positions)) == kept
        assert (found.words_cut, found.words_without_tokens) == (3 - kept, 0)
    assert found.positions == ((), (), ())
    with pytest.raises(InputError, match="no room"):
        word_tokens(byte_tokenizer, sentence, "en", special=special, max_tokens=3)


def test_tokenizers_without_offsets_read_word_by_word() -> None:
    """All but the words' own bytes and blanks is left out; words of a multiword token share theirs."""
    tokenizer = ByteTokenizer()
    sentence = plain_sentence("ab", "an", "dem", "c", text="ab am, c".replace(",", ""), contractions=((1, 3, "am"),))
    found = word_tokens(tokenizer, sentence, "de", special=SpecialTokens((1,), ()), max_tokens=50)
    assert tokenizer.calls == ["ab", " am", " c"]
    assert found.positions == ((1, 2), (3, 4, 5), (3, 4, 5), (6, 7))
    assert found.ids == (1, *tokenizer("ab am c", add_special_tokens=False)["input_ids"])


def test_special_tokens(word_piece_tokenizer: Any, byte_tokenizer: Any, merging_tokenizer: Any) -> None:
    """CLS and SEP as the tokenizer adds them; BOS for a decoder whether its tokenizer adds it or not."""
    assert special_tokens(word_piece_tokenizer, is_encoder=True) == SpecialTokens((2,), (3,))
    assert special_tokens(byte_tokenizer, is_encoder=True) == BARE
    assert special_tokens(byte_tokenizer, is_encoder=False) == SpecialTokens((1,), ())
    assert special_tokens(ByteTokenizer(), is_encoder=True) == SpecialTokens((1,), ())
    with pytest.raises(UnsupportedModelError, match="neither a BOS"):
        special_tokens(ByteTokenizer(bos=None, eos=None), is_encoder=False)


def test_an_object_that_is_no_tokenizer() -> None:
    class Odd:
        is_fast = True

        def __call__(self, text: str) -> None:
            """No such options."""

    with pytest.raises(UnsupportedModelError, match="Odd cannot be called"):
        word_tokens(Odd(), plain_sentence("a"), "en", special=BARE, max_tokens=9)

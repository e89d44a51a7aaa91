"""Which tokens of a tokenizer belong to which word of a sentence.

A sentence is tokenised as the model read text in its training: as running text, not word by word. A token belongs to each
word that it shares a character with, so a token that covers two words belongs to both, and a character that is split into
bytes brings all of its tokens. Blanks belong to no word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hf_langcore.data import encode, start_token
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.probing.treebanks import Sentence

WITHOUT_SPACES = frozenset({"bo", "dz", "ja", "km", "lo", "lzh", "my", "th", "yue", "zh"})
"""Languages that are written without spaces between words."""

_BLANKS = "\u2581\u0120 "  # what tokenizers write for a space
_SAMPLE = "a"


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """What a model expects around a text.

    Attributes:
        before: Ids before it: CLS of an encoder, BOS of a decoder.
        after: Ids after it: SEP of an encoder.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WordTokens:
    """A sentence in tokens.

    Attributes:
        ids: Token ids, special tokens included.
        positions: Of each word the places of its tokens in `ids`; empty where the word is left out.
        words_cut: Number of words left out because they lie past the end of the model's context.
        words_without_tokens: Number of words left out because the tokenizer gave them no token.
    """

    ids: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    words_cut: int
    words_without_tokens: int


def special_tokens(tokenizer: Any, *, is_encoder: bool) -> SpecialTokens:
    """What stands around a text: the tokenizer's own special tokens for an encoder, a start token for a decoder.

    Decoders get a start token whether or not their tokenizer adds one, as everywhere in this library.

    Raises:
        UnsupportedModelError: A decoder's tokenizer has neither BOS nor EOS.
    """
    if not is_encoder:
        return SpecialTokens((start_token(tokenizer).id,), ())
    body = encode(tokenizer, _SAMPLE)
    whole = list(_call(tokenizer, _SAMPLE, add_special_tokens=True)["input_ids"])
    begin = next((place for place in range(len(whole)) if body and whole[place : place + len(body)] == body), 0)
    return SpecialTokens(tuple(whole[:begin]), tuple(whole[begin + len(body) :]))


def locate_words(sentence: Sentence, language: str) -> tuple[str, list[tuple[int, int]]]:
    """The running text of a sentence and the characters of each word in it.

    The text is the treebank's own where its words follow one another in it with nothing but blanks between; else the words
    are joined, by spaces or, in languages without them, directly. Words of a multiword token stand where their forms do if
    these make up the token ("dá|me|lo"); else all of them stand for all of it ("am" is both "an" and "dem").

    Args:
        sentence: The sentence.
        language: Its code; a part after "-" or "_" does not count.

    Returns:
        The text, and begin and end (exclusive) of each word, in characters.
    """
    units = list(_units(sentence))
    text = sentence.text
    places = None if text is None else _places(text, [form for form, _ in units])
    if text is None or places is None:
        gap = "" if language.replace("_", "-").split("-")[0] in WITHOUT_SPACES else " "
        text = gap.join(form for form, _ in units)
        places = _places(text, [form for form, _ in units]) or []
    spans = [span for (form, words), begin in zip(units, places, strict=True) for span in _spans(form, words, begin)]
    return text, spans


def word_tokens(
    tokenizer: Any, sentence: Sentence, language: str, *, special: SpecialTokens, max_tokens: int
) -> WordTokens:
    """Tokenise a sentence and say which tokens belong to which word.

    Fast tokenizers say which characters a token stands for. Others are given one word at a time, with the blanks before it.

    Args:
        tokenizer: Any callable with transformers' tokenizer interface.
        sentence: The sentence.
        language: Its code.
        special: What stands around the text.
        max_tokens: The model's context, in tokens; what is longer is cut, and a word that loses a token is left out.

    Raises:
        InputError: The context has no room for text.
        UnsupportedModelError: The tokenizer has another interface.
    """
    room = max_tokens - len(special.before) - len(special.after)
    if room < 1:
        raise InputError(f"A context of {max_tokens} tokens has no room for text between the special tokens.")
    text, spans = locate_words(sentence, language)
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    ids, found = _by_offsets(tokenizer, text, spans) if is_fast else _word_by_word(tokenizer, text, spans)
    kept = [places if not places or places[-1] < room else () for places in found]
    first = len(special.before)
    return WordTokens(
        ids=(*special.before, *ids[:room], *special.after),
        positions=tuple(tuple(first + place for place in places) for places in kept),
        words_cut=sum(bool(before) and not after for before, after in zip(found, kept, strict=True)),
        words_without_tokens=sum(not places for places in found),
    )


def _units(sentence: Sentence) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the text shows, in order: each form with the words that it stands for."""
    done = 0
    for begin, end, form in sentence.contractions:
        yield from ((word, (word,)) for word in sentence.words[done:begin])
        yield form, sentence.words[begin:end]
        done = end
    yield from ((word, (word,)) for word in sentence.words[done:])


def _places(text: str, forms: Sequence[str]) -> list[int] | None:
    """Where each form begins; None where something else than blanks stands between them or around them."""
    places: list[int] = []
    done = 0
    for form in forms:
        begin = text.find(form, done)
        if begin < 0 or text[done:begin].strip():
            return None
        places.append(begin)
        done = begin + len(form)
    return None if text[done:].strip() else places


def _spans(form: str, words: tuple[str, ...], begin: int) -> list[tuple[int, int]]:
    """The characters of the words of one form that begins at `begin`."""
    if "".join(words).casefold() != form.casefold() or len("".join(words)) != len(form):
        return [(begin, begin + len(form))] * len(words)
    ends = [begin + len("".join(words[: number + 1])) for number in range(len(words))]
    return [(end - len(word), end) for word, end in zip(words, ends, strict=True)]


def _by_offsets(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, ...]]]:
    """Token ids of the text, and the places of each word's tokens, by the characters that they stand for."""
    encoding = _call(tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
    ids = list(encoding["input_ids"])
    covering: list[list[int]] = [[] for _ in text]
    for place, (begin, end) in enumerate(encoding["offset_mapping"]):
        for character in range(begin, end):
            covering[character].append(place)
    names = tokenizer.convert_ids_to_tokens(ids)
    blank = {place for place, name in enumerate(names) if isinstance(name, str) and not name.strip(_BLANKS)}
    return ids, [_tokens_of(text, span, covering, blank) for span in spans]


def _tokens_of(
    text: str, span: tuple[int, int], covering: Sequence[Sequence[int]], blank: set[int]
) -> tuple[int, ...]:
    """The tokens of a word; the mark of a space counts only where there is nothing else."""
    visible = [place for place in range(*span) if not text[place].isspace()]
    found = {token for place in visible for token in covering[place]}
    return tuple(sorted(found - blank or found))


def _word_by_word(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, ...]]]:
    """The same for tokenizers that do not say which characters a token stands for."""
    ids: list[int] = []
    found: list[tuple[int, ...]] = []
    done = 0
    for number, span in enumerate(spans):
        if number and span == spans[number - 1] and span[1] == done:  # a further word of a multiword token
            found.append(found[-1])
            continue
        new = encode(tokenizer, text[done : span[1]])
        found.append(tuple(range(len(ids), len(ids) + len(new))))
        ids += new
        done = span[1]
    return ids, found


def _call(tokenizer: Any, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool = False) -> Any:
    options = {"return_offsets_mapping": True} if return_offsets_mapping else {}
    try:
        return tokenizer(text, add_special_tokens=add_special_tokens, **options)
    except (TypeError, NotImplementedError) as error:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} cannot be called as transformers' tokenizers are ({error}). Load it with "
            "AutoTokenizer.from_pretrained."
        ) from error

"""A phrase is a run of words that hang together under one root; phrases are put together by attaching.

A word points to its head by distance, so a finished phrase can be cached and set into any sentence as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple


class Word(NamedTuple):
    """One word of a phrase.

    Attributes:
        form: As written inside a sentence.
        upos: Universal part-of-speech tag.
        deprel: Relation to the head; of no meaning for the root of a phrase.
        distance: Position of the head minus own position; 0 for the root of a phrase.
        joins_left: No space before it (commas, full stops).
        joins_right: No space after it (French l', Arabic wa-).
    """

    form: str
    upos: str
    deprel: str = ""
    distance: int = 0
    joins_left: bool = False
    joins_right: bool = False


class Phrase(NamedTuple):
    """Contiguous words and the position of the one that all others depend on."""

    words: tuple[Word, ...]
    root: int


Dependents = Sequence[tuple[str, Phrase]]


@cache
def word(form: str, upos: str, *, joins_left: bool = False, joins_right: bool = False) -> Phrase:
    """A phrase of one word."""
    return Phrase((Word(form, upos, joins_left=joins_left, joins_right=joins_right),), 0)


def attach(head: Phrase, before: Dependents = (), after: Dependents = ()) -> Phrase:
    """Hang (relation, phrase) pairs on the root of `head`, to its left and to its right, in surface order."""
    root = head.root
    for _, phrase in before:
        root += len(phrase.words)
    words: list[Word] = []
    for deprel, phrase in before:
        _extend(words, phrase, deprel, root)
    words.extend(head.words)
    for deprel, phrase in after:
        _extend(words, phrase, deprel, root)
    return Phrase(tuple(words), root)


def _extend(words: list[Word], phrase: Phrase, deprel: str, root: int) -> None:
    at = len(words) + phrase.root
    words.extend(phrase.words)
    form, upos, _, _, joins_left, joins_right = words[at]
    words[at] = Word(form, upos, deprel, root - at, joins_left, joins_right)


def adjunct(phrase: Phrase) -> tuple[str, Phrase]:
    """The phrase with the relation that it has as a place or a time: advmod for adverbs, obl otherwise."""
    return ("advmod" if phrase.words[phrase.root].upos == "ADV" else "obl"), phrase

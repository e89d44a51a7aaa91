"""The public functions of the mini corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hf_langcore.data.mini.enumeration import meaning_at
from hf_langcore.data.mini.languages import GRAMMARS
from hf_langcore.data.mini.sentence import MiniSentence
from hf_langcore.errors import CorpusError, InputError

MINI_LANGUAGES: tuple[str, ...] = tuple(sorted(GRAMMARS))


def generate_sentences(language: str, count: int, *, seed: int = 0, start: int = 0) -> Iterator[MiniSentence]:
    """Generate sentences lazily; no two of one seed have the same text, for any count.

    The sentence with a given index and seed means the same in all languages.

    Args:
        language: One of `MINI_LANGUAGES`.
        count: How many sentences.
        seed: Chooses the order of all meanings.
        start: Index of the first sentence. [0, n) and [n, n + m) share no sentence; skipping costs nothing.

    Returns:
        An iterator over the sentences.

    Raises:
        CorpusError: The language is not one of `MINI_LANGUAGES`.
        InputError: `count` or `start` is negative.
    """
    grammar = GRAMMARS[_known(language)]
    _at_least(count, 0, "count")
    _at_least(start, 0, "start")
    return (grammar.sentence(meaning_at(index, seed)) for index in range(start, start + count))


def mini_corpus(language: str, count: int, *, seed: int = 0, start: int = 0) -> list[str]:
    """The texts of `generate_sentences`.

    Args:
        language: One of `MINI_LANGUAGES`.
        count: How many sentences.
        seed: Chooses the order of all meanings.
        start: Index of the first sentence.

    Returns:
        One string a sentence.

    Raises:
        CorpusError: The language is not one of `MINI_LANGUAGES`.
        InputError: `count` or `start` is negative.
    """
    return [sentence.text for sentence in generate_sentences(language, count, seed=seed, start=start)]


def mini_corpora(
    languages: Iterable[str] | None = None,
    *,
    sentences: int = 2000,
    seed: int = 0,
    start: int = 0,
    sentences_per_document: int = 8,
) -> dict[str, list[str]]:
    """Parallel corpora of documents, ready to be given wherever texts by language are asked for.

    Args:
        languages: Codes from `MINI_LANGUAGES`; all of them by default.
        sentences: How many sentences each language gets.
        seed: Chooses the order of all meanings.
        start: Index of the first sentence.
        sentences_per_document: How many sentences make a document; the last document may have fewer.

    Returns:
        Language -> documents.

    Raises:
        CorpusError: A language is not one of `MINI_LANGUAGES`.
        InputError: A number is out of range, or `languages` is one string instead of several.
    """
    if isinstance(languages, str):
        raise InputError(
            f"languages should be a list of language codes, got the string {languages!r}. "
            f"Write [{languages!r}] for a single language."
        )
    chosen = MINI_LANGUAGES if languages is None else tuple(map(_known, languages))
    _at_least(sentences, 0, "sentences")
    _at_least(start, 0, "start")
    _at_least(sentences_per_document, 1, "sentences_per_document")
    return {
        language: _documents(
            language, mini_corpus(language, sentences, seed=seed, start=start), sentences_per_document
        )
        for language in chosen
    }


def _documents(language: str, texts: list[str], size: int) -> list[str]:
    gap = " " if GRAMMARS[language].spaced else ""
    return [gap.join(texts[at : at + size]) for at in range(0, len(texts), size)]


def _known(language: str) -> str:
    if language not in GRAMMARS:
        raise CorpusError(
            f"Expected a language of the built-in mini corpus ({', '.join(MINI_LANGUAGES)}), got {language!r}. "
            "Choose one of these, or give texts of your own for other languages."
        )
    return language


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise InputError(f"{name} should be at least {least}, got {value}. Give a larger number.")

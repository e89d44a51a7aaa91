"""Counting, seeding, skipping, parallel meaning, documents and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.data.mini import (
    MINI_LANGUAGES,
    MiniSentence,
    generate_sentences,
    mini_corpora,
    mini_corpus,
)
from hf_langcore.data.mini.concepts import (
    AGENT_ADJECTIVES,
    HOMES,
    PATIENT_ADJECTIVES,
    TIMES,
    VERB_PLACES,
)
from hf_langcore.data.mini.enumeration import _CORES, FIRST_ALL_COMPOUND, SIMPLE_MEANINGS, meaning_at, shuffled
from hf_langcore.data.mini.languages import GRAMMARS, ar, de, en, es, fr, ko, ru, tr, vi, zh
from hf_langcore.data.mini.meaning import Meaning
from hf_langcore.errors import CorpusError, InputError

FIRST_ENGLISH = [
    "Last week the tired students saw a white cat in the village.",
    "Tomorrow the kind teachers will buy five eggs in the shop.",
]
STABLE = settings(deadline=None, derandomize=True, max_examples=80)


def test_the_languages_are_the_ten_promised() -> None:
    """Sorted ISO 639-1 codes."""
    assert MINI_LANGUAGES == ("ar", "de", "en", "es", "fr", "ko", "ru", "tr", "vi", "zh")


def test_the_simple_space_is_large() -> None:
    """At least a hundred thousand simple sentences, so that small corpora never look alike."""
    assert SIMPLE_MEANINGS >= 100_000


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_no_text_repeats_even_past_the_simple_space(language: str) -> None:
    """20,000 sentences from the start and around the end of the simple ones are all different."""
    texts = mini_corpus(language, 15_000, seed=4)
    texts += mini_corpus(language, 5_000, seed=4, start=FIRST_ALL_COMPOUND - 2_500)
    assert len(set(texts)) == 20_000


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_far_beyond_all_pairs_of_clauses_sentences_go_on(language: str) -> None:
    """A start that no memory could count up to still works, and gives longer sentences."""
    texts = mini_corpus(language, 50, start=10**25)
    assert len(set(texts)) == 50
    assert all(len(meaning_at(10**25 + at, 0).clauses) > 2 for at in range(50))


def variants(meaning: Meaning) -> Iterator[Meaning]:
    """The meaning with each free choice of its first clause set to each of its other values."""
    clause = meaning.clauses[0]
    choices: dict[str, tuple[object, ...]] = {
        "plural": (False, True),
        "agent_adjective": ("", *AGENT_ADJECTIVES[clause.agent]),
        "patient_adjective": ("", *PATIENT_ADJECTIVES[clause.patient]),
        "place": ("", *VERB_PLACES[clause.verb]),
        "time": TIMES,
    }
    for name, values in choices.items():
        kept = clause._replace(home="") if name == "agent_adjective" else clause
        for value in values:
            yield Meaning((kept._replace(**{name: value}),))
    for home in HOMES:
        yield Meaning((clause._replace(agent_adjective="", home=home),))


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_every_choice_of_a_meaning_is_heard(language: str) -> None:
    """Changing any one choice changes the text, which is why different meanings never share one."""
    say = GRAMMARS[language].sentence
    for index in range(0, 400, 4):
        meanings = set(variants(meaning_at(index, 9)))
        assert len({say(meaning).text for meaning in meanings}) == len(meanings)


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_every_event_has_a_text_of_its_own(language: str) -> None:
    """No two combinations of agent, verb, patient and quantity are said alike, all else being equal."""
    clause = (
        meaning_at(0, 0)
        .clauses[0]
        ._replace(agent_adjective="", home="", patient_adjective="", place="", time="yesterday")
    )
    events = [core[:4] for core in _CORES]
    texts = {
        GRAMMARS[language]
        .sentence(Meaning((clause._replace(agent=agent, verb=verb, patient=patient, quantity=quantity),)))
        .text
        for agent, verb, patient, quantity in events
    }
    assert len(texts) == len(events)


def thing_forms(language: str) -> dict[str, tuple[str, ...]]:
    """Concept -> all forms that the patient may have as a token."""
    tables = {
        "ar": {c: (*r[:4], "ال" + r[0]) for c, r in ar.THINGS.items()},
        "de": {c: r[:2] for c, r in de.NOUNS.items()},
        "en": {c: r[:2] for c, r in en.NOUNS.items()},
        "es": {c: r[:2] for c, r in es.NOUNS.items()},
        "fr": {c: r[:2] for c, r in fr.NOUNS.items()},
        "ko": {c: (r[0], r[0] + "을", r[0] + "를", r[0] + "에게") for c, r in ko.NOUNS.items()},
        "ru": {c: r[:3] for c, r in ru.THINGS.items()},
        "tr": dict(tr.THINGS),
        "vi": {c: r[1:] for c, r in vi.NOUNS.items()},
        "zh": {c: r[:1] for c, r in zh.NOUNS.items()},
    }
    return tables[language]


def said_patient(sentence: MiniSentence, language: str) -> set[str]:
    """The concepts that the object of the main verb can name."""
    root = next(at for at, t in enumerate(sentence.tokens, start=1) if t.head == 0)
    objects = {t.form for t in sentence.tokens if t.head == root and t.deprel in {"obj", "obl"}}
    return {concept for concept, forms in thing_forms(language).items() if objects & set(forms) - {""}}


@pytest.mark.parametrize("language", [code for code in MINI_LANGUAGES if code != "en"])
def test_the_same_index_means_the_same_in_all_languages(language: str) -> None:
    """The object of a simple sentence names the same concept in English and in the other language."""
    pairs = zip(generate_sentences("en", 800, seed=2), generate_sentences(language, 800, seed=2), strict=True)
    compared = 0
    for index, (english, other) in enumerate(pairs):
        if index % 4 != 3:
            compared += 1
            assert said_patient(english, "en") & said_patient(other, language), (english.text, other.text)
    assert compared == 600


@STABLE
@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_shuffling_is_a_permutation(size: int, seed: int) -> None:
    """Each place is taken exactly once, whatever the size."""
    assert sorted(shuffled(value, size, seed) for value in range(size)) == list(range(size))


@STABLE
@given(
    st.sampled_from(MINI_LANGUAGES),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 10**8),
    st.integers(-5, 5),
)
def test_start_continues_the_same_enumeration(language: str, first: int, second: int, start: int, seed: int) -> None:
    """[s, s+n) and [s+n, s+n+m) together are [s, s+n+m): they share nothing and miss nothing."""
    train = mini_corpus(language, first, seed=seed, start=start)
    test = mini_corpus(language, second, seed=seed, start=start + first)
    assert train + test == mini_corpus(language, first + second, seed=seed, start=start)
    assert not set(train) & set(test)


def test_seeds_give_different_orders() -> None:
    """Another seed starts with other sentences."""
    assert not set(mini_corpus("en", 200, seed=1)) & set(mini_corpus("en", 200, seed=2))


def test_the_sentences_are_the_same_in_another_process() -> None:
    """Nothing depends on hash randomisation or on what ran before."""
    program = "from hf_langcore.data.mini import mini_corpus; print(ascii(mini_corpus('ko', 40, seed=7, start=5)))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONHASHSEED": salt,
                "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path.cwd())])),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    }
    assert outputs == {ascii(mini_corpus("ko", 40, seed=7, start=5))}


def test_the_first_sentence_of_seed_zero_stays_what_it_is() -> None:
    """A changed order would silently change every model trained on the corpus; change this on purpose only."""
    assert mini_corpus("en", 2) == FIRST_ENGLISH


def test_generation_is_lazy() -> None:
    """A count beyond all memory costs nothing until sentences are taken."""
    sentences = generate_sentences("de", 10**18)
    assert isinstance(next(sentences), MiniSentence)


def test_one_sentence_in_four_is_compound() -> None:
    """The mix of shapes does not depend on how much is generated."""
    counts = [len(meaning_at(index, 0).clauses) for index in range(400)]
    assert counts.count(2) == 100
    assert counts.count(1) == 300


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_documents_hold_the_asked_number_of_sentences(language: str) -> None:
    """Documents join sentences by a space, in Chinese by nothing; the last may be shorter."""
    documents = mini_corpora([language], sentences=20, sentences_per_document=8, seed=3)[language]
    texts = mini_corpus(language, 20, seed=3)
    gap = "" if language == "zh" else " "
    assert documents == [gap.join(texts[:8]), gap.join(texts[8:16]), gap.join(texts[16:])]


def test_corpora_default_to_all_languages() -> None:
    """Without a choice all languages come, in order; nothing asked gives empty lists."""
    assert tuple(mini_corpora(sentences=4)) == MINI_LANGUAGES
    assert mini_corpora(["vi"], sentences=0) == {"vi": []}


@pytest.mark.parametrize("language", ["xx", "EN", ""])
def test_unknown_languages_are_named_with_what_exists(language: str) -> None:
    """All three functions refuse at the call, before anything is generated."""
    for call in (
        lambda: generate_sentences(language, 1),
        lambda: mini_corpus(language, 1),
        lambda: mini_corpora([language]),
    ):
        with pytest.raises(CorpusError, match=r"ar, de, en.*got '" + language):
            call()


def test_numbers_out_of_range_are_refused() -> None:
    """The message names the argument, the least value and what came."""
    with pytest.raises(InputError, match="count should be at least 0, got -1"):
        generate_sentences("en", -1)
    with pytest.raises(InputError, match="start should be at least 0, got -2"):
        mini_corpus("en", 1, start=-2)
    with pytest.raises(InputError, match="sentences should be at least 0, got -3"):
        mini_corpora(sentences=-3)
    with pytest.raises(InputError, match="sentences_per_document should be at least 1, got 0"):
        mini_corpora(sentences_per_document=0)


def test_a_string_of_languages_is_refused() -> None:
    """A string like "en" is not a list of languages, though Python could walk through it."""
    with pytest.raises(InputError, match=r"Write \['en'\]"):
        mini_corpora("en")

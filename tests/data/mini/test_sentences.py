"""Every sentence is a well-formed tree with universal tags, proper text and proper CoNLL-U."""

# ruff: noqa: RUF001 -- letters of other alphabets are what is tested
from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.data.mini import MINI_LANGUAGES, MiniSentence, MiniToken, generate_sentences


def words(text: str) -> set[str]:
    return set(text.split())


UPOS = words("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X")
DEPRELS = words(
    "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse "
    "dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis "
    "punct reparandum root vocative xcomp"
)
CASED = {"de", "en", "es", "fr", "ru", "tr", "vi"}
STABLE = settings(deadline=None, derandomize=True, max_examples=60)
SAMPLE = 600


def sample(language: str, count: int = SAMPLE) -> list[MiniSentence]:
    return list(generate_sentences(language, count, seed=11))


def steps_to_root(tokens: tuple[MiniToken, ...], at: int) -> int:
    steps = 0
    while tokens[at].head:
        at = tokens[at].head - 1
        steps += 1
        assert steps <= len(tokens), "a cycle"
    return steps


def crossings(tokens: tuple[MiniToken, ...]) -> int:
    arcs = [tuple(sorted((at, token.head))) for at, token in enumerate(tokens, start=1) if token.head]
    return sum(a < c < b < d for a, b in arcs for c, d in arcs)


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_heads_form_a_projective_tree_with_one_root(language: str) -> None:
    """One root, no cycle, no head outside of the sentence, no crossing arcs."""
    for sentence in sample(language):
        tokens = sentence.tokens
        assert [t.deprel for t in tokens if t.head == 0] == ["root"]
        assert all(0 <= t.head <= len(tokens) for t in tokens)
        assert all((t.deprel == "root") == (t.head == 0) for t in tokens)
        for at in range(len(tokens)):
            steps_to_root(tokens, at)
        assert crossings(tokens) == 0, sentence.text


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_tags_and_relations_are_universal(language: str) -> None:
    """Tags are among the 17 of UPOS, relations universal ones with at most a known subtype."""
    for sentence in sample(language):
        for token in sentence.tokens:
            assert token.form
            assert token.form == token.form.strip()
            assert token.upos in UPOS
            assert token.deprel.split(":")[0] in DEPRELS
            assert (token.upos == "PUNCT") == (token.deprel == "punct")


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_function_words_have_no_dependents_except_fixed_and_classifiers(language: str) -> None:
    """As in Universal Dependencies, only content words govern."""
    for sentence in sample(language):
        for token in sentence.tokens:
            if token.head and token.deprel not in {"fixed", "clf"}:
                governor = sentence.tokens[token.head - 1]
                assert governor.upos in {"VERB", "NOUN", "ADJ", "ADV"}, (sentence.text, token)


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_every_clause_has_a_subject_and_something_acted_upon(language: str) -> None:
    """The root always has an nsubj and an obj (or an obl, where the verb takes a preposition)."""
    for sentence in sample(language):
        root = next(at for at, t in enumerate(sentence.tokens, start=1) if t.head == 0)
        relations = [t.deprel for t in sentence.tokens if t.head == root]
        assert relations.count("nsubj") == 1
        assert "obj" in relations or "obl" in relations
        assert sentence.tokens[root - 1].upos == "VERB"


@pytest.mark.parametrize("language", MINI_LANGUAGES)
def test_text_is_clean(language: str) -> None:
    """Capital first, one full stop at the end, no stray spaces before punctuation or doubled anywhere."""
    for sentence in sample(language):
        text = sentence.text
        assert text == text.strip()
        assert text.endswith("。" if language == "zh" else ".")
        assert "  " not in text
        assert not re.search(r"\s[,.،，。]|[,،，][,.،，。]|,\S", text), text
        assert text.count(".") + text.count("。") == 1
        if language in CASED:
            assert text[0].isupper()
        assert (" " in text) == (language != "zh")


SCRIPTS = {
    "ar": r"[\u0600-\u06ff .]+",
    "ko": r"[\uac00-\ud7a3 .]+",
    "ru": r"[а-яёА-ЯЁ ,.]+",
    "zh": r"[\u4e00-\u9fff，。]+",
    "en": r"[a-zA-Z ,.]+",
    "de": r"[a-zA-ZäöüÄÖÜß ,.]+",
    "es": r"[a-zA-Záéíóúñ ,.]+",
    "tr": r"[a-zA-ZçğıöşüâÇÖÜİŞ ,.]+",
    "fr": r"[a-zA-Zàâçéèêîïôœûù ',.-]+",
}


@pytest.mark.parametrize("language", sorted(SCRIPTS))
def test_only_letters_of_the_script_occur(language: str) -> None:
    """No placeholder of the word tables ("_", "-", "/") and no foreign letter reaches the text."""
    for sentence in sample(language):
        assert re.fullmatch(SCRIPTS[language], sentence.text), sentence.text


def parsed(block: str) -> tuple[dict[str, str], list[list[str]]]:
    """A CoNLL-U reader that knows nothing of the writer."""
    assert block.endswith("\n\n")
    lines = block[:-2].split("\n")
    comments = dict(line[2:].split(" = ", 1) for line in lines if line.startswith("#"))
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert all(len(row) == 10 and all(row) for row in rows)
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    return comments, rows


@STABLE
@given(st.sampled_from(MINI_LANGUAGES), st.integers(0, 10**9), st.integers(0, 5))
def test_conllu_round_trip(language: str, start: int, seed: int) -> None:
    """An independent reader gets back tokens, text and identifier."""
    (sentence,) = generate_sentences(language, 1, seed=seed, start=start)
    comments, rows = parsed(sentence.to_conllu(f"{language}-{start}"))
    assert comments == {"sent_id": f"{language}-{start}", "text": sentence.text}
    back = tuple(MiniToken(r[1], r[3], int(r[6]), r[7], r[9] != "SpaceAfter=No") for r in rows)
    assert back == sentence.tokens
    joined = "".join(r[1] + ("" if r[9] == "SpaceAfter=No" else " ") for r in rows)
    assert joined.rstrip() == comments["text"]


def test_conllu_without_identifier_has_only_the_text_comment() -> None:
    """`# sent_id` appears only where asked for."""
    (sentence,) = generate_sentences("en", 1)
    comments, _ = parsed(sentence.to_conllu())
    assert set(comments) == {"text"}


def test_conllu_of_a_known_sentence() -> None:
    """The exact bytes of a small block."""
    tokens = (MiniToken("Go", "VERB", 0, "root", space_after=False), MiniToken("!", "PUNCT", 1, "punct"))
    expected = (
        "# text = Go!\n1\tGo\t_\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No\n2\t!\t_\tPUNCT\t_\t_\t1\tpunct\t_\t_\n\n"
    )
    assert MiniSentence("en", tokens).to_conllu() == expected

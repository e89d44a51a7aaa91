"""Agreement, case and spelling of the European languages and Turkish, by rules of the test's own."""

# ruff: noqa: RUF001 -- letters of other alphabets are what is tested
from __future__ import annotations

import re

from hf_langcore.data.mini import MiniSentence, MiniToken, generate_sentences
from hf_langcore.data.mini.languages import ru, tr

SAMPLE = 1500


def words(text: str) -> set[str]:
    return set(text.split())


def sample(language: str) -> list[MiniSentence]:
    return list(generate_sentences(language, SAMPLE, seed=23))


def children(sentence: MiniSentence, at: int, *relations: str) -> list[MiniToken]:
    """Dependents of the token at 1-based position `at`."""
    return [t for t in sentence.tokens if t.head == at and (not relations or t.deprel in relations)]


def noun_phrases(sentence: MiniSentence) -> list[tuple[MiniToken, list[str]]]:
    """Subjects and objects that are nouns, with the lower-case forms of their modifiers in order."""
    kinds = ("det", "amod", "nummod", "nummod:gov")
    return [
        (token, [t.form.lower() for t in children(sentence, at, *kinds)])
        for at, token in enumerate(sentence.tokens, start=1)
        if token.upos == "NOUN" and token.deprel in {"nsubj", "obj"}
    ]


# --- Spanish ---------------------------------------------------------------------------------------------

ES_FEMININE = words(
    "mujer niña profesora abuela vecina pintora carta manzana flor casa mesa camisa llave taza "
    "bicicleta bolsa sopa agua leche"
)


def test_spanish_articles_and_adjectives_agree() -> None:
    """Gender and number of article, demonstrative and adjective follow the noun."""
    checked = 0
    for sentence in sample("es"):
        for noun, modifiers in noun_phrases(sentence):
            is_plural = noun.form.endswith("s")
            singular = re.sub(r"(?<=[lr])es$|s$", "", noun.form.lower())
            is_feminine = singular in ES_FEMININE or noun.form == "mujeres"
            for form in modifiers:
                checked += 1
                if form in {"dos", "tres", "cinco"}:
                    assert is_plural
                elif form in {"el", "los", "la", "las", "un", "una", "este", "esta"}:
                    assert (form in {"la", "las", "una", "esta"}) == is_feminine, sentence.text
                    assert (form in {"los", "las"}) == is_plural
                else:
                    assert form.endswith("s") == is_plural, sentence.text
                    ending = form.rstrip("s")[-1]
                    assert ending not in "ao" or (ending == "a") == is_feminine, sentence.text
    assert checked > SAMPLE


def test_spanish_contracts() -> None:
    """The preposition and the article in "a el" and "de el" never stand apart; "al" and "del" occur."""
    text = " ".join(s.text for s in sample("es"))
    assert not re.search(r"\b(a|de) el\b", text)
    assert " al parque" in text
    assert " del río" in text


# --- French ----------------------------------------------------------------------------------------------


def test_french_elides_and_contracts() -> None:
    """No "le", "la", "ce", "de" or "que" before a vowel, no "à le" or "de le"."""
    vowel = "[aeiouhéèêàœ]"
    text = " ".join(s.text for s in sample("fr")).lower()
    # "la harpe" and the like would be an exception; no word here begins with an aspirated h.
    assert not re.search(rf"\b(le|la|ce|de|que|une? de) {vowel}(?!t |nt )", text.replace("ce a ", ""))
    assert not re.search(r"(?<![\w-])(à|de) les?\b", text)
    for expected in ("l'homme", "de l'eau", "cet œuf", "au marché", "près du parc", "du pain"):
        assert expected in text


def test_french_adjectives_agree_and_stand_where_they_should() -> None:
    """Short common adjectives precede the noun, colours follow; feminine forms go with une, la and cette."""
    for sentence in sample("fr"):
        text = sentence.text
        assert not re.search(r"\b(noir|blanc|rouge|frais|chaud|froid)\w* (chat|chien|oiseau|lait)", text)
        assert not re.search(r"\b(une|cette|la) (petit|grand|vieux|nouveau|beau|gentil)\b(?!-)", text), text
        assert not re.search(r"\b(un|ce|le) (petite|grande|vieille|nouvelle|belle|gentille)\b", text), text
        assert not re.search(r"\b(deux|trois|cinq|les) (petite?|grande?|belle|nouvelle|vieille|gentille?) ", text)


# --- German ----------------------------------------------------------------------------------------------

DE_GENDER = {
    **dict.fromkeys(["Brief", "Apfel", "Tisch", "Schlüssel", "Fisch", "Hund", "Vogel", "Reis", "Tee"], "m"),
    **dict.fromkeys(["Zeitung", "Blume", "Tasse", "Tasche", "Katze", "Suppe", "Milch"], "f"),
    **dict.fromkeys(["Buch", "Auto", "Haus", "Hemd", "Bild", "Fahrrad", "Ei", "Pferd", "Brot", "Wasser"], "n"),
}
DE_ACCUSATIVE = {"m": ("einen", "diesen", "en"), "f": ("eine", "diese", "e"), "n": ("ein", "dieses", "es")}


def test_german_objects_are_in_the_accusative() -> None:
    """Articles show gender and case; a neuter adjective ends in -es unless "dieses" has shown it."""
    checked = 0
    for sentence in sample("de"):
        for noun, modifiers in noun_phrases(sentence):
            if noun.deprel != "obj" or not modifiers or modifiers[0] in {"zwei", "drei", "fünf"}:
                continue
            checked += 1
            a, this, strong = DE_ACCUSATIVE[DE_GENDER[noun.form]]
            assert modifiers[0] in {a, this} or modifiers[0].endswith(strong), sentence.text
            if len(modifiers) == 2:
                assert modifiers[1].endswith("e" if modifiers[0] == "dieses" else strong), sentence.text
    assert checked > SAMPLE // 3


def test_german_keeps_the_finite_verb_second_and_nouns_capital() -> None:
    """Exactly one constituent precedes the finite verb of a main clause; after weil it is the last word."""
    for sentence in sample("de"):
        tokens = sentence.tokens
        root = next(at for at, t in enumerate(tokens, start=1) if t.head == 0)
        finite = next((at for at, t in enumerate(tokens, start=1) if t.head == root and t.deprel == "aux"), root)
        assert sum(t.head == root for t in tokens[: finite - 1]) == 1, sentence.text
        assert all(t.form[0].isupper() for t in tokens if t.upos == "NOUN")
        if " weil " in sentence.text:
            ends = {t.form for t in tokens[-2:]}
            assert ends - {"."} <= {t.form for t in tokens if t.upos in {"VERB", "AUX"}}, sentence.text


# --- Russian ---------------------------------------------------------------------------------------------


def test_russian_case_forms_come_from_the_right_column() -> None:
    """Accusative alone, the form after two and three, the genitive plural after five; numerals by gender."""
    columns = {"": 0, "эт": 0, "дв": 1, "тр": 1, "пят": 2}
    seen = set()
    for sentence in sample("ru"):
        for noun, modifiers in noun_phrases(sentence):
            if noun.deprel != "obj":
                continue
            first = modifiers[0] if modifiers else ""
            key = next((k for k in columns if k and first.startswith(k)), "")
            row = next(r for r in ru.THINGS.values() if noun.form in r[:3] and noun.form == r[columns[key]])
            seen.add(key)
            if first in {"два", "две"}:
                assert (first == "две") == (row[3] == "f")
            if key == "пят" and len(modifiers) == 2:
                assert modifiers[1].endswith(("ых", "их"))
            if key == "эт":
                assert first == {"m": "этот", "f": "эту", "n": "это"}[row[3]]
    assert seen == set(columns)


def test_russian_past_agrees_with_the_subject() -> None:
    """The ending follows gender and number of the subject of the same clause."""
    genders = {form: ("p" if plural else r[2]) for r in ru.AGENTS.values() for plural, form in enumerate(r[:2])}
    checked = 0
    for sentence in sample("ru"):
        for at, verb in enumerate(sentence.tokens, start=1):
            subjects = children(sentence, at, "nsubj")
            if verb.upos != "VERB" or not subjects or not re.search(r"л[аи]?$|[ёе]л$", verb.form):
                continue
            checked += 1
            ending = {"m": "л", "f": "а", "p": "и"}[genders[subjects[0].form.lower()]]
            assert verb.form.endswith(ending), sentence.text
    assert checked > SAMPLE // 4


def test_russian_relative_clauses_stand_between_commas() -> None:
    """The relative pronoun agrees with its noun, and commas enclose the clause."""
    for sentence in sample("ru"):
        if "котор" in sentence.text:
            assert re.search(r", котор(ый|ая|ые) жив(ёт|ут) \w+ \w+,", sentence.text), sentence.text


# --- Turkish ---------------------------------------------------------------------------------------------

TR_HARMONY = {"a": "ı", "ı": "ı", "e": "i", "i": "i", "o": "u", "u": "u", "ö": "ü", "ü": "ü"}


def last_vowel(form: str) -> str:
    return [c for c in form if c in TR_HARMONY][-1]


def test_turkish_suffixes_harmonise() -> None:
    """Accusative, plural and locative vowels follow the last vowel of the stem; d hardens after p ç t k."""
    for nominative, accusative in tr.THINGS.values():
        assert accusative[-1] == TR_HARMONY[last_vowel(nominative)], accusative
    for singular, plural in tr.AGENTS.values():
        assert plural == singular + ("lar" if last_vowel(singular) in "aıou" else "ler")
    for place in ("pazarda", "okulda", "bahçede", "mutfakta", "köyde", "şehirde", "mağazada", "kütüphanede"):
        assert place[-1] == ("a" if last_vowel(place[:-2]) in "aıou" else "e")
        assert (place[-2] == "t") == (place[-3] in "pçtkfhsş")


def test_turkish_marks_definite_objects_only() -> None:
    """Accusative after "bu", bare form after numerals, "bir" and alone; the verb comes last."""
    accusatives = {row[1] for row in tr.THINGS.values()}
    bare = {row[0] for row in tr.THINGS.values()}
    for sentence in sample("tr"):
        for noun, modifiers in noun_phrases(sentence):
            if noun.deprel == "obj":
                assert noun.form in (accusatives if "bu" in modifiers else bare), sentence.text
        assert sentence.tokens[-2].upos == "VERB"
        assert not sentence.text.startswith("I")


# --- English ---------------------------------------------------------------------------------------------


def test_english_articles_and_verbs_agree() -> None:
    """An before vowels, a before consonants; -s with one subject in the present, "who" for people."""
    for sentence in sample("en"):
        text = sentence.text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert not re.search(r"\b(woman|man|girl|boy|teacher|doctor|artist)s? that|(cat|dog|bird|horse)s? who", text)
        assert not re.search(r"\bwill \w+s\b", text)
        assert not re.search(r"(men|women|girls|boys|cats|dogs) (who|that) lives", text)

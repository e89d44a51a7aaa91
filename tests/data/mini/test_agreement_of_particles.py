"""Particles, classifiers and agreement of Korean, Chinese, Vietnamese and Arabic, by rules of the test's own."""

from __future__ import annotations

import re
import unicodedata

import pytest

from hf_langcore.data.mini import MiniSentence, MiniToken, generate_sentences
from hf_langcore.data.mini.languages import ko

SAMPLE = 1500


def words(text: str) -> set[str]:
    return set(text.split())


def sample(language: str) -> list[MiniSentence]:
    return list(generate_sentences(language, SAMPLE, seed=23))


def children(sentence: MiniSentence, at: int, *relations: str) -> list[MiniToken]:
    """Dependents of the token at 1-based position `at`."""
    return [t for t in sentence.tokens if t.head == at and (not relations or t.deprel in relations)]


# --- Korean ----------------------------------------------------------------------------------------------


def ends_in_consonant(form: str) -> bool:
    """By canonical decomposition, which the grammar does not use."""
    return "\u11a8" <= unicodedata.normalize("NFD", form)[-1] <= "\u11c2"


def test_korean_particles_follow_the_final_consonant() -> None:
    """을/은/이 after a consonant, 를/는/가 after a vowel, on every marked noun."""
    checked = 0
    for sentence in sample("ko"):
        for token in sentence.tokens:
            if token.deprel not in {"nsubj", "obj", "clf"} or token.form.endswith("에게"):
                continue
            stem, particle = token.form[:-1], token.form[-1]
            if particle in "을은이를는가" and stem:
                checked += 1
                assert (particle in "을은이") == ends_in_consonant(stem), sentence.text
    assert checked > 2 * SAMPLE


def test_korean_counts_with_the_counter_of_the_noun() -> None:
    """Noun, numeral, counter: 책 두 권을; the particle stands on the counter."""
    counters = {noun: counter for noun, counter in ko.NOUNS.values() if counter}
    checked = 0
    for sentence in sample("ko"):
        tokens = sentence.tokens
        for at, token in enumerate(tokens):
            if token.upos == "NUM":
                checked += 1
                assert tokens[at + 1].form.startswith(counters[tokens[at - 1].form]), sentence.text
                assert tokens[at + 1].form[-1] in "을를게"
    assert checked > SAMPLE // 2


def test_korean_verbs_come_last_with_the_plain_ending() -> None:
    """The sentence ends in 다, joined clauses in 고, 지만 or 기 때문에."""
    for sentence in sample("ko"):
        assert sentence.text.endswith("다.")


# --- Chinese and Vietnamese ------------------------------------------------------------------------------

ZH_CLASSIFIERS = {
    **dict.fromkeys("猫狗鸟", "只"), "马": "匹", "书": "本", "信": "封", "报纸": "份", "花": "朵", "汽车": "辆",
    "自行车": "辆", "房子": "座", "桌子": "张", "衬衫": "件", "钥匙": "把", "画": "幅", "鱼": "条",
    **dict.fromkeys(("苹果", "杯子", "包", "鸡蛋"), "个"),
}  # fmt: skip


def test_chinese_uses_the_classifier_of_the_noun() -> None:
    """Between numeral or 这 and noun stands the noun's own classifier; two is 两, never 二."""
    checked = 0
    for sentence in sample("zh"):
        tokens = sentence.tokens
        assert "二" not in sentence.text
        for at, token in enumerate(tokens, start=1):
            if token.deprel == "obj" and token.form in ZH_CLASSIFIERS:
                for number in (n for n, t in enumerate(tokens, start=1) if t.head == at and t.upos in {"NUM", "DET"}):
                    checked += 1
                    (classifier,) = children(sentence, number, "clf")
                    assert classifier.form == ZH_CLASSIFIERS[token.form], sentence.text
        assert not any(t.space_after for t in tokens)
    assert checked > SAMPLE // 2


@pytest.mark.parametrize(
    ("language", "past", "future"),
    [("zh", ("昨天", "了"), ("明天", "会")), ("vi", ("Hôm qua", "đã"), ("Ngày mai", "sẽ"))],
)
def test_markers_of_tense_fit_the_time(language: str, past: tuple[str, str], future: tuple[str, str]) -> None:
    """Where the time says past or future, so does the marker, except with Chinese verbs that end in nothing."""
    for sentence in sample(language):
        text = sentence.text
        if text.startswith(past[0]):
            assert past[1] in text or "寻找" in text
            assert future[1] not in [t.form for t in sentence.tokens]
        if text.startswith(future[0]):
            assert future[1] in text
            assert past[1] not in [t.form for t in sentence.tokens]


def test_vietnamese_classifiers_stand_between_numeral_and_noun() -> None:
    """As in "hai quyển sách" and "quyển sách mới này": numeral, classifier, noun, adjective, demonstrative."""
    text = " ".join(s.text for s in sample("vi"))
    assert re.search(r"(một|hai|ba|năm) quyển sách", text)
    assert re.search(r"quyển sách (mới|cũ|thú vị) này", text)
    assert not re.search(r"(một|hai|ba|năm) (sách|thư|báo|táo|hoa|nhà|bàn|tranh|cá|trứng|mèo|chó)\b", text)


# --- Arabic ----------------------------------------------------------------------------------------------

AR_FEMININE = words("المرأة البنت الطبيبة الجدة الجارة القطة")


def test_arabic_verbs_agree_in_gender_with_the_subject() -> None:
    """Present verbs begin with ت for one feminine subject or several animals, with ي otherwise."""
    checked = 0
    animals = {"الكلاب", "القطط", "العصافير", "الأحصنة"}
    for sentence in sample("ar"):
        for at, verb in enumerate(sentence.tokens, start=1):
            subjects = [t for t in children(sentence, at, "nsubj") if t.upos == "NOUN"]
            if verb.upos != "VERB" or not subjects or verb.form[0] not in "يت":
                continue
            place = sentence.tokens.index(subjects[0]) + 1
            is_feminine = subjects[0].form in AR_FEMININE or subjects[0].form in animals
            plural_women = subjects[0].form in {"النساء", "البنات", "الطبيبات", "الجدات", "الجارات"}
            if place > at:
                is_feminine = is_feminine or plural_women
            checked += 1
            assert (verb.form[0] == "ت") == is_feminine, sentence.text
    assert checked > SAMPLE // 3


def test_arabic_numerals_take_the_opposite_gender() -> None:
    """ثلاثة and خمسة with masculine nouns, ثلاث and خمس with feminine ones; two is a dual, never a word."""
    masculine = words("كلاب عصافير أحصنة كتب بيوت قمصان مفاتيح فناجين")
    checked = 0
    for sentence in sample("ar"):
        for token in sentence.tokens:
            if token.upos == "NUM":
                checked += 1
                noun = sentence.tokens[token.head - 1].form
                assert token.form.endswith("ة") == (noun in masculine), sentence.text
        assert "اثن" not in sentence.text
    assert checked > SAMPLE // 4


def test_arabic_accusative_subjects_after_because_and_but() -> None:
    """A sound masculine plural ends in -in after لأن and لكن, in -un elsewhere."""
    for sentence in sample("ar"):
        assert not re.search(r"(لأن|لكن) ال\w+ون\b", sentence.text), sentence.text
        if not re.search("لأن|لكن", sentence.text):
            assert not re.search(r"(المعلمين|الفلاحين|الرسامين)", sentence.text), sentence.text


def test_arabic_adjectives_share_the_article() -> None:
    """An adjective has the article exactly if its noun has it."""
    for sentence in sample("ar"):
        for token in sentence.tokens:
            if token.deprel == "amod":
                noun = sentence.tokens[token.head - 1].form
                assert token.form.startswith("ال") == noun.startswith("ال"), sentence.text

# ruff: noqa: RUF001
"""Texts that stay in their language and texts that leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.switching import Criteria, judge

GERMAN = "Die Regierung hat gestern beschlossen, die Steuern auf Benzin im nächsten Jahr um fünf Prozent zu senken. "
ENGLISH = "The government decided yesterday that taxes on petrol will be lowered by five per cent next year. "


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", GERMAN),
        (
            "zh",
            "苹果公司（Apple Inc.）推出了iPhone 15 Pro Max和MacBook Air，售价为999美元，库克在发布会上介绍了新产品。",
        ),
        (
            "zh",
            "下面是代码：\ndef add(a, b):\n    return a + b\nprint(add(1, 2))\n以上代码计算两个数字的和，非常简单。",
        ),
        ("ja", "私は昨日、東京でMicrosoft Office PowerPointの研修を受けました。とても面白かったです。"),
        ("ko", "대한민국(大韓民國)은 동아시아의 한반도 남부에 위치한 나라이다. 수도는 서울이다."),
        ("ru", "Компания Microsoft Corporation выпустила Windows 11 и Office 365, сообщает New York Times."),
        ("sr", "Beograd je glavni grad Srbije i najveći grad u zemlji, a nalazi se na ušću Save u Dunav."),
        ("sr", "Београд је главни град Србије и највећи град у земљи, а налази се на ушћу Саве у Дунав."),
        ("en", "He said that 人工智能 (artificial intelligence) would change the world in ten years."),
        ("no", "Jeg har vært i byen i dag og kjøpt nye klær til barna mine."),
        ("ms", "Kerajaan akan menaikkan harga minyak pada bulan hadapan kerana kos meningkat."),
    ],
)
def test_names_code_and_numbers_are_no_switch(language: str, text: str) -> None:
    judgement = judge(text, language)
    assert (judgement.outcome, judgement.found, judgement.place, judgement.share) == ("stayed", language, None, 0.0)


@pytest.mark.parametrize(
    ("language", "text", "found", "by", "starts"),
    [
        ("zh", "今天天气很好，我们去 the park to play football together with friends", "en", "script", "the park"),
        ("ru", "Он сказал мне и потом he went to the store and bought some milk", "en", "script", "he went"),
        ("en", "He said that it was good. 我们今天去学校学习汉语，老师很好，同学们也很努力。", "zh", "script", "我们"),
        ("ja", "东京是日本的首都，人口非常多，交通也很方便，很多游客每年都来这里旅游。", "zh", "language", "东京"),
        ("ko", "我们今天去学校学习汉语，老师很好，同学们也很努力。", "zh", "language", "我们"),
        ("de", ENGLISH, "en", "language", "The"),
        ("el", "Σήμερα " + ENGLISH, "en", "script", "The"),
    ],
)
def test_another_script_or_language(language: str, text: str, found: str, by: str, starts: str) -> None:
    judgement = judge(text, language)
    assert (judgement.outcome, judgement.found, judgement.by) == ("left", found, by)
    assert text[judgement.place :].startswith(starts)


def test_a_part_in_another_language_counts_and_its_place_is_near() -> None:
    """Also at the very end; the share is that of the windows."""
    text = GERMAN * 3 + ENGLISH
    judgement = judge(text, "de")
    assert (judgement.outcome, judgement.found, judgement.by) == ("left", "en", "language")
    assert abs(judgement.place - len(GERMAN) * 3) <= 100
    assert 0.1 < judgement.share < 0.5
    assert judge(text, "de", Criteria(width=400)).share > judgement.share or judge(text, "de").outcome == "left"
    assert judge(text, "en").found == "de"


@pytest.mark.parametrize(
    "text",
    ["", "Ja.", "12345 67890, 3.14 = 2 + 1.14; 50 % !!!", "你好。", "```\nprint('hello world again and again')\n```"],
)
def test_too_short_to_tell(text: str) -> None:
    judgement = judge(text, "de")
    assert (judgement.outcome, judgement.found) == ("too short", None)


def test_letters_that_make_no_words() -> None:
    text = "xkqv bnrtz zpwlq wkjhf gdsamn bvcpl kjhrt yfgwq xzjkh gfdlk jpoqw mnbzx"
    assert judge(text, "fr").outcome == "no language"


def test_the_criteria_decide() -> None:
    """A larger ratio gives the benefit of the doubt; a smaller share of letters makes names a switch; `among` rules out."""
    danish = "Læreren så to hunder utenfor huset, og etterpå gikk hun hjem igjen."
    assert judge(danish, "da", Criteria(ratio=1.0)).outcome == "left"
    assert judge(danish, "da", Criteria(ratio=1e9)).outcome == "stayed"
    names = "苹果公司（Apple Inc.）推出了iPhone 15 Pro Max和MacBook Air，售价为999美元。"
    assert judge(names, "zh", Criteria(script_share=0.2)).outcome == "left"
    assert judge(ENGLISH, "de", Criteria(among=("de", "fr"))).found in {"de", "fr"}
    assert judge("Kort tekst.", "de", Criteria(fewest_letters=5)).outcome != "too short"


@pytest.mark.parametrize(
    "options",
    [
        {"width": 10},
        {"width": 99.5},
        {"ratio": 0.5},
        {"ratio": float("nan")},
        {"script_share": 0},
        {"fewest_letters": 0},
    ],
)
def test_criteria_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Criteria(**options)


@pytest.mark.real
def test_real_text_stays_and_appended_text_is_found(real_data_path: Path) -> None:
    """No false alarm in the beginnings of real documents in 30 languages; a foreign end is found nearly always."""
    texts = {
        path.stem: path.read_text(encoding="utf-8").splitlines()
        for path in sorted((real_data_path / "test").glob("*.txt"))
    }
    languages = list(texts)
    left = [code for code, lines in texts.items() for line in lines[:2] if judge(line[:250], code).outcome != "stayed"]
    assert left == []
    right = 0
    for number, code in enumerate(languages):
        other = languages[(number + 7) % len(languages)]
        judgement = judge(f"{texts[code][1][:120]} {texts[other][2][:120]}", code)
        right += judgement.outcome == "left" and judgement.found == other
    assert right >= len(languages) - 2

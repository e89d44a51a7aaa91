"""Generations are drawn as asked, and judged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.switching import Criteria, code_switching_rate, judge, switching_of_texts
from hf_langcore.switching.rate import _key

ENGLISH = "The government decided yesterday that taxes on petrol will be lowered by five per cent next year."
PROMPTS = {"en": ["The man", "A house"], "de": ["Der Mann"]}


def test_a_model_that_always_writes_english(parrot: Any, tokenizer: Any) -> None:
    """English prompts are answered in their language, German ones are not; the prompt is no part of the text."""
    report = code_switching_rate(parrot(ENGLISH), tokenizer, PROMPTS, max_new_tokens=100, progress=False)
    assert [one.text for one in report.generations] == [ENGLISH[:100]] * 3
    assert (report.rate("en").value, report.rate("de").value) == (0.0, 1.0)
    assert report.confusion() == {"en": {"en": 2}, "de": {"en": 1}}
    assert [one.prompt for one in report.generations] == ["The man", "A house", "Der Mann"]


def test_a_character_that_is_cut_off_is_no_letter(parrot: Any, tokenizer: Any) -> None:
    text = "我们今天去学校"
    report = code_switching_rate(
        parrot(text), tokenizer, {"zh": ["他"]}, max_new_tokens=len(text.encode()) - 1, progress=False
    )
    assert report.generations[0].text == text[:-1]


def test_texts_do_not_depend_on_the_batch_and_samples_differ(model: Any, tokenizer: Any) -> None:
    options = {"max_new_tokens": 12, "progress": False, "seed": 3}
    whole = code_switching_rate(model, tokenizer, PROMPTS, samples=2, **options)
    alone = code_switching_rate(model, tokenizer, PROMPTS, samples=2, batch_size=1, **options)
    assert [one.text for one in whole.generations] == [one.text for one in alone.generations]
    assert [one.prompt for one in whole.of("en")] == ["The man", "A house"] * 2
    assert len({one.text for one in whole.of("en")}) == 4
    once = code_switching_rate(model, tokenizer, {"de": PROMPTS["de"]}, **options)
    assert once.generations[0].text == whole.of("de")[0].text
    other = code_switching_rate(model, tokenizer, PROMPTS, max_new_tokens=12, seed=4, progress=False)
    assert other.generations[0].text != whole.generations[0].text
    assert _key("de") != _key("en")
    assert whole.settings["sampling"] == {
        "max_new_tokens": 12,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 3,
        "samples": 2,
    }


def test_a_long_prompt_loses_its_beginning(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    inner = model.generate

    def spy(**options: Any) -> Any:
        seen.append(options["input_ids"])
        return inner(**options)

    monkeypatch.setattr(model, "generate", spy)
    code_switching_rate(model, tokenizer, {"en": ["x" * 300 + "end"]}, max_new_tokens=20, progress=False)
    assert seen[0].shape == (1, 192 - 20)
    assert tokenizer.decode(seen[0][0, -3:]) == "end"
    assert seen[0][0, 0] == 0
    with pytest.raises(InputError, match="no room for a prompt"):
        code_switching_rate(model, tokenizer, PROMPTS, max_new_tokens=191, progress=False)


def test_texts_that_exist_already() -> None:
    texts = {"de-DE": [ENGLISH, "Das ist ein schöner Tag, und wir gehen in den Park.", ""]}
    report = switching_of_texts(texts)
    assert [one.judgement for one in report.generations] == [judge(text, "de") for text in texts["de-DE"]]
    assert report.outcomes("de-DE") == {"stayed": 1, "left": 1, "too short": 1, "no language": 0}
    assert report.settings["criteria"]["ratio"] == 10.0
    assert switching_of_texts({"de": [ENGLISH]}, criteria=Criteria(among=("de",))).rate("de").value == 0.0


@pytest.mark.parametrize(
    ("prompts", "error", "problem"),
    [
        ({}, CorpusError, "must be a mapping"),
        ({"en": "The man"}, CorpusError, "'en': prompts must be a list"),
        ({"en": []}, CorpusError, "at least one text"),
        ({"en": ["x", " "]}, CorpusError, r"'en': the prompts \[1\] are empty"),
        ({"klingon": ["x"]}, InputError, "klingon"),
    ],
)
def test_wrong_prompts(model: Any, tokenizer: Any, prompts: Any, error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        code_switching_rate(model, tokenizer, prompts, progress=False)


def test_wrong_numbers_and_models(model: Any, tokenizer: Any) -> None:
    for options in ({"max_new_tokens": 0}, {"temperature": 0.0}, {"top_p": 1.5}, {"samples": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            code_switching_rate(model, tokenizer, PROMPTS, progress=False, **options)
    with pytest.raises(UnsupportedModelError, match="no `generate`"):
        code_switching_rate(torch.nn.Linear(2, 2), tokenizer, PROMPTS, progress=False)
    with pytest.raises(InputError, match="xx"):
        switching_of_texts({"de": ["x"]}, criteria=Criteria(among=("xx",)))

"""Outputs that repeat their input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_echo, measure_echo
from tests.conftest import build_llama, build_t5

LONG = "the quick brown fox jumps over the lazy dog"


def test_copies_echoes_and_answers() -> None:
    outputs = [LONG.upper(), LONG[:30], "ein schneller brauner Fuchs springt", "dog", LONG + " " + "x" * 40]
    report = measure_echo([LONG] * 5, outputs)
    assert report.overlaps[:2] == (1.0, 1.0)
    assert report.overlaps[2] == 0
    assert report.overlaps[3] is None  # a word of the input is an answer, too
    assert 0.4 < report.overlaps[4] < 0.6
    assert (report.copies, report.echoes, report.rate) == (1, 2, 0.4)
    assert measure_echo([LONG] * 5, outputs, threshold=0.4).echoes == 3
    assert report.to_dict()["too_short"] == 1
    assert measure_echo(["今天天气很好,我们去公园散步"], ["今天天气很好,我们去公园散步"]).copies == 1
    assert measure_echo(["北京今天下雨吗"], ["北京今天下雨吗。"]).copies == 1
    assert measure_echo(["..."], ["!"]).copies == 0
    assert measure_echo(["ab"], [""]).to_dict()["mean_overlap"] is None


def test_unequal_numbers_and_thresholds_are_refused() -> None:
    with pytest.raises(InputError, match="2 inputs and 1 outputs"):
        measure_echo(["a", "b"], ["a"])
    with pytest.raises(InputError, match="at least one"):
        measure_echo([], [])
    with pytest.raises(InputError, match="threshold"):
        measure_echo(["a"], ["a"], threshold=0)


class Letters:
    """A tokenizer of printable ASCII."""

    pad_token_id, eos_token_id = 0, 2

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) - 29 for letter in text]}

    def decode(self, ids: Any, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(int(one) + 29) for one in ids if int(one) > 2)


@pytest.mark.parametrize("build", [build_t5, build_llama])
def test_batches_do_not_change_the_answers(build: Any) -> None:
    """Neither the fillings of shorter inputs nor the inputs themselves stand in the answers."""
    model, texts = build(), ["a much longer text", "b", "two words"]
    reports = [evaluate_echo(model, Letters(), texts, max_new_tokens=7, batch_size=size) for size in (1, 3)]
    assert reports[0] == reports[1]
    for text, output in zip(texts, reports[0].outputs, strict=True):
        ids = torch.tensor([Letters()(text)["input_ids"]])
        options = {"max_new_tokens": 7, "do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
        written = model.generate(input_ids=ids, **options)[0]
        new = written if model.config.is_encoder_decoder else written[ids.shape[1] :]
        assert Letters().decode(new, skip_special_tokens=True) == output
    with pytest.raises(InputError, match="list of at least one text"):
        evaluate_echo(model, Letters(), "text")
    with pytest.raises(InputError, match="has no tokens"):
        evaluate_echo(model, Letters(), ["text", ""])


def test_a_causal_model_goes_on_from_its_input() -> None:
    """Not from an end token that a tokenizer adds; without filling and end token any other token fills up."""

    class Ending(Letters):
        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [*super().__call__(text)["input_ids"], self.eos_token_id]}

    class Bare(Letters):
        pad_token_id = eos_token_id = None  # type: ignore[assignment]

    texts, model = ["a much longer text", "b"], build_llama()
    reports = [evaluate_echo(model, one, texts, max_new_tokens=7) for one in (Letters(), Ending(), Bare())]
    assert reports[0] == reports[1] == reports[2]

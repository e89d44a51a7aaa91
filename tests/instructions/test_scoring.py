"""A model that writes its answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.instructions import arithmetic_rows, completion_score, evaluate_arithmetic
from hf_langcore.instructions.scoring import greedy_completions
from tests.instructions.conftest import SUMS, llama
from tests.instructions.test_completion import WRAPPERS, wrapped


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_model_that_knows_the_sums(bytewise: Any, adder: Any, batch_size: int) -> None:
    """Every answer is generated, whatever the padding; generation stops at the end token."""
    found = evaluate_arithmetic(adder, bytewise, SUMS, batch_size=batch_size)
    assert found.generated == tuple(row["completion"] for row in SUMS)
    assert (found.exact_match, found.digit_match, found.token_match, found.malformed, found.rows) == (1, 1, 1, 0, 5)
    assert {name: part.rows for name, part in found.by_operation.items()} == {"+": 4, "-": 1}
    assert found.loss == pytest.approx(completion_score(adder, bytewise, SUMS).loss, rel=1e-5)
    minus = completion_score(adder, bytewise, SUMS[4:])
    assert found.by_operation["-"].loss == pytest.approx(minus.loss, rel=1e-4)


def test_wrong_answers_show(bytewise: Any, adder: Any) -> None:
    """Answers are compared with what the model wrote, not with the completions; a cut answer is judged as it is."""
    rows = [{**SUMS[1], "answer": "36"}, *SUMS[2:]]
    found = evaluate_arithmetic(adder, bytewise, rows)
    assert (found.exact_match, found.digit_match, found.token_match) == (3 / 4, pytest.approx(3.5 / 4), 1)
    cut = evaluate_arithmetic(adder, bytewise, SUMS, max_new_tokens=1)
    assert (cut.malformed, cut.exact_match, set(cut.generated)) == (5, 0, {" "})


@pytest.mark.parametrize("name", WRAPPERS)
def test_generation_is_that_of_single_prompts(bytewise: Any, name: str) -> None:
    """Token by token without cache or padding, also behind virtual tokens; rows come back in their order."""
    model = wrapped(name)
    prompts = [row["prompt"] for row in arithmetic_rows(5, digits=(1, 3))]
    expected = []
    for prompt in prompts:
        ids = list(bytewise(prompt)["input_ids"])
        start = len(ids)
        with torch.no_grad():
            while len(ids) < start + 6 and ids[-1] != bytewise.eos_token_id:
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        expected.append(bytewise.decode(ids[start:], skip_special_tokens=True))
    for size in (1, 3):
        assert greedy_completions(model, bytewise, prompts, max_new_tokens=6, batch_size=size) == expected


def test_the_models_own_generation_settings_do_not_count(bytewise: Any, adder: Any) -> None:
    """Penalties and sampling that a model was saved with would change greedy answers."""
    model = llama()
    model.load_state_dict(adder.state_dict())
    settings = model.generation_config
    settings.do_sample, settings.temperature, settings.top_k = True, 5.0, 3
    settings.repetition_penalty, settings.no_repeat_ngram_size, settings.min_length = 9.0, 1, 40
    settings.min_new_tokens = 40
    found = evaluate_arithmetic(model, bytewise, SUMS)
    assert found.exact_match == 1
    assert found.generated == tuple(row["completion"] for row in SUMS)
    assert settings.do_sample


def test_further_end_tokens_of_the_model_count(bytewise: Any, adder: Any) -> None:
    """Chat models end with more tokens than the tokenizer's one."""
    digit = bytewise("7")["input_ids"][0]
    model = llama()
    model.load_state_dict(adder.state_dict())
    model.generation_config.eos_token_id = [digit]
    written = greedy_completions(model, bytewise, [SUMS[2]["prompt"], SUMS[4]["prompt"]], max_new_tokens=9)
    assert written == [" 10", " 5"]


def test_bad_input_is_named(bytewise: Any, adder: Any) -> None:
    """Rows without answers, no rows, no tokens to write, and models that cannot."""
    with pytest.raises(InputError, match="Answer 0"):
        evaluate_arithmetic(adder, bytewise, [{"prompt": "1 + 1 =", "completion": " 2"}])
    with pytest.raises(InputError, match="no rows"):
        evaluate_arithmetic(adder, bytewise, [])
    with pytest.raises(InputError, match="max_new_tokens"):
        evaluate_arithmetic(adder, bytewise, SUMS, max_new_tokens=0)
    with pytest.raises(UnsupportedModelError, match="generate"):
        evaluate_arithmetic(torch.nn.Linear(1, 1), bytewise, SUMS)
    with pytest.raises(InputError, match="has no tokens"):
        greedy_completions(adder, bytewise, [""], max_new_tokens=1)

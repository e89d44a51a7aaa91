"""Loss and exact match of completions in one forward pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.instructions import arithmetic_rows, completion_score
from tests.instructions.conftest import SUMS, llama

WRAPPERS = {
    "bare": None,
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "lora": LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False),
}


def wrapped(name: str) -> Any:
    torch.manual_seed(1)
    config = WRAPPERS[name]
    return llama() if config is None else get_peft_model(llama(), copy.deepcopy(config)).eval()


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_score_is_what_plain_loops_give(bytewise: Any, name: str) -> None:
    """Loss of padded batches is that of single rows; virtual tokens in front shift nothing."""
    model = wrapped(name)
    rows = arithmetic_rows(7, digits=(1, 2))
    total, count = 0.0, 0
    for row in rows:
        prompt = bytewise(row["prompt"])["input_ids"]
        answer = [*bytewise(row["completion"])["input_ids"], bytewise.eos_token_id]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, -len(answer) - 1 : -1]
        total += float(nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
        count += len(answer)
    for size in (1, 3, 64):
        found = completion_score(model, bytewise, rows, batch_size=size)
        assert found.loss == pytest.approx(total / count, rel=1e-5)
        assert found.exact_match == 0


def test_one_wrong_token_is_no_exact_match(bytewise: Any, adder: Any) -> None:
    """Also a missing end: the model would stop where the changed completion goes on."""
    assert completion_score(adder, bytewise, SUMS).exact_match == 1
    changed = [{**SUMS[0], "completion": SUMS[0]["completion"] + "0"}, *SUMS[1:]]
    found = completion_score(adder, bytewise, changed, batch_size=2)
    assert found.exact_match == pytest.approx(4 / 5)
    assert found.loss > completion_score(adder, bytewise, SUMS).loss


def test_the_model_is_left_as_it_was(bytewise: Any) -> None:
    """Training goes on in training mode, and no gradient is kept."""
    model = llama().train()
    completion_score(model, bytewise, SUMS)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "no rows"),
        ([{"prompt": "1 + 1 ="}], {}, "Row 0 needs a completion"),
        ([*SUMS, {"prompt": "", "completion": "2"}], {}, "Row 5 needs a prompt"),
        (SUMS, {"batch_size": 0}, "batch_size"),
        (SUMS, {"batch_size": "auto"}, "batch_size"),
    ],
)
def test_bad_input_is_named(bytewise: Any, rows: Any, options: dict[str, Any], message: str) -> None:
    """Before the model runs."""
    with pytest.raises(InputError, match=message):
        completion_score(None, bytewise, rows, **options)


def test_encoder_decoder_models_are_refused(bytewise: Any) -> None:
    """Their prompts and completions go into two different stacks."""
    config = T5Config(vocab_size=259, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with pytest.raises(UnsupportedModelError, match="Scoring completions"):
        completion_score(T5ForConditionalGeneration(config), bytewise, SUMS)

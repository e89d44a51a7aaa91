from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel, PeftModelForCausalLM, get_peft_model_state_dict

from hf_langcore.tuner.saving import as_peft_model


def test_the_shell_is_a_view(llama: Any, make_wrapped: Callable[..., Any]) -> None:
    """The PeftModel around a tuner shares its weights and names them as the first PeftModel does."""
    model = make_wrapped(llama, task_type="CAUSAL_LM")
    shell = as_peft_model(model.base_model)
    assert type(shell) is PeftModelForCausalLM
    assert shell.base_model is model.base_model
    one, other = get_peft_model_state_dict(shell), get_peft_model_state_dict(model)
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_without_a_task_it_is_a_plain_peft_model(llama: Any, make_wrapped: Callable[..., Any]) -> None:
    """As get_peft_model chooses the class."""
    assert type(as_peft_model(make_wrapped(llama).base_model)) is PeftModel

"""Adapters of any PEFT method."""

from __future__ import annotations

import copy
import json
from typing import Any

import peft
import pytest
import torch

from hf_langcore.errors import ConfigurationError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.protection.adapters import adapter_config, applied, described, finished, virtual_tokens
from hf_langcore.tuner import CoreRegionConfig

LINEAR = {"target_modules": "all-linear"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def core(bpe_llama: Any) -> CoreMask:
    weights = {name: weight.abs() for name, weight in bpe_llama.named_parameters() if "layers" in name}
    return CoreMask.from_scores(weights, fraction=0.1)


def no_core() -> CoreMask:
    pytest.fail("only a CORE_REGION adapter without a mask asks for the core")


def test_a_mapping_and_a_config_give_the_same(core: CoreMask) -> None:
    """Of any type, in any case; each run gets its own copy, for language models unless it says otherwise."""
    given = peft.LoraConfig(r=4, target_modules=["q_proj"])
    from_config = adapter_config(given, no_core)
    from_mapping = adapter_config({"peft_type": "lora", "r": 4, "target_modules": ["q_proj"]}, no_core)
    assert from_config.to_dict() == from_mapping.to_dict()
    assert from_config is not given
    assert from_config.task_type == "CAUSAL_LM"
    assert given.task_type is None
    ours = adapter_config({"peft_type": "CORE_REGION", **LINEAR}, lambda: core)
    assert isinstance(ours, CoreRegionConfig)
    assert ours.core_mask == core
    assert adapter_config(CoreRegionConfig(method="random"), no_core).method == "random"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "peft_type, one of .*LORA"),
        ({"peft_type": "LORAX"}, "'LORAX'"),
        ({"peft_type": "LORA", "rank": 4}, "refuses the options of LORA.*rank"),
        ({"peft_type": "LORA", "layers_pattern": "h", "target_modules": "q"}, "refuses the options"),
    ],
)
def test_what_peft_does_not_know_is_refused(values: dict[str, Any], words: str) -> None:
    """With the names that there are, or PEFT's own words."""
    with pytest.raises(ConfigurationError, match=words):
        adapter_config(values, no_core)


def test_what_does_not_suit_the_model_is_refused(bpe_llama: Any) -> None:
    """Modules that it does not have: the method is named, and PEFT's words say why."""
    missing = adapter_config({"peft_type": "LORA", "target_modules": ["no_such"]}, no_core)
    with pytest.raises(ConfigurationError, match=r"'mine' cannot be applied to this model.*no_such"):
        applied(copy.deepcopy(bpe_llama), missing, name="mine")


def test_descriptions_are_json(core: CoreMask) -> None:
    """Sets in order, masks by their digest; another option is another description."""
    config = CoreRegionConfig(core_mask=core, target_modules=["v_proj", "q_proj"])
    found = described(config)
    assert json.loads(json.dumps(found)) == found
    assert found["target_modules"] == ["q_proj", "v_proj"]
    assert described({"peft_type": "LORA", "r": 4}) == {"peft_type": "LORA", "r": 4}
    assert described({"peft_type": "CORE_REGION", "core_mask": core})["core_mask"] == core.digest()
    assert described(CoreRegionConfig(core_mask=core, target_modules=["q_proj"])) != found
    assert described(None) is None


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "LORA", "r": 4, **LINEAR},
        {"peft_type": "LORA", "r": 4, "use_dora": True, **LINEAR},
        {"peft_type": "IA3", "feedforward_modules": [], **LINEAR},
        {"peft_type": "OFT", "r": 0, "oft_block_size": 8, **LINEAR},
        {"peft_type": "OSF", **LINEAR},
        {"peft_type": "SHIRA", "r": 2, **LINEAR},
        {"peft_type": "VERA", "r": 4, **LINEAR},
        {"peft_type": "LN_TUNING"},
        {"peft_type": "CORE_REGION", "r": 4, **LINEAR},
        {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3},
        {"peft_type": "P_TUNING", "num_virtual_tokens": 3, "encoder_hidden_size": 8},
    ],
    ids=lambda values: f"{values['peft_type']}{'-dora' if 'use_dora' in values else ''}",
)
def test_what_is_measured_is_what_was_trained(bpe_llama: Any, core: CoreMask, values: dict[str, Any]) -> None:
    """Merged, the outputs stay; virtual tokens stay in front; weights that the method does not touch keep their bits."""
    torch.manual_seed(0)
    config = adapter_config(values, lambda: core)
    wrapped = applied(copy.deepcopy(bpe_llama), config, name="one")
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    wrapped.eval()
    ids = torch.randint(3, 290, (2, 7))
    measured = finished(wrapped).eval()
    with torch.inference_mode():
        before = wrapped(input_ids=ids, use_cache=False).logits[:, -7:]
        after = measured(input_ids=ids, use_cache=False).logits[:, -7:]
        plain = bpe_llama(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(after, before, atol=2e-4, rtol=1e-3)
    assert (after - plain).abs().max() > 1e-2, "the adapter does something"
    has_virtual = "num_virtual_tokens" in values
    assert virtual_tokens(config) == (3 if has_virtual else 0)
    assert isinstance(measured, peft.PeftModel) == has_virtual
    changed = count_changed(measured, copy_weights(bpe_llama, core), core)
    if has_virtual or values["peft_type"] == "CORE_REGION":
        assert changed.core == 0
    else:
        assert changed.core > 0
    assert (changed.complement > 0) != has_virtual


def test_without_an_adapter_nothing_is_merged(bpe_llama: Any) -> None:
    """The model itself."""
    assert finished(bpe_llama) is bpe_llama

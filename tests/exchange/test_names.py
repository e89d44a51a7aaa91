from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.exchange.names import Parameters

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    "written",
    [
        NAME,
        "layers.0.mlp.up_proj.weight",  # of LlamaModel
        f"module.{NAME}",
        f"_orig_mod.{NAME}",
        f"module._orig_mod.{NAME}",
        f"base_model.model.{NAME}",
        f"module.base_model.model.{NAME}",
        "base_model.model.model.layers.0.mlp.up_proj.base_layer.weight",
        "model.layers.0._orig_mod.mlp.up_proj.weight",
    ],
)
def test_names_of_wrappers(written: str, llama: Any) -> None:
    assert Parameters(llama).find(written, source="file").name == NAME
    wrapped = get_peft_model(llama, LoraConfig(target_modules=["up_proj"]))
    assert Parameters(wrapped).find(written, source="file").name == NAME


def test_names_with_and_without_the_head(llama: Any) -> None:
    assert Parameters(llama.model).find(NAME, source="file").name == NAME.removeprefix("model.")
    trained = "base_model.model.lm_head.modules_to_save.default.weight"
    assert Parameters(llama).find(trained, source="file").name == "lm_head.weight"


def test_tied_parameters(gpt2: Any) -> None:
    assert Parameters(gpt2).find("lm_head.weight", source="file").name == "transformer.wte.weight"


@pytest.mark.parametrize(
    "name", ["model.layers.9.mlp.up_proj.weight", "weight", "up_proj.weight", "../../etc/passwd", "", "x" * 10_000]
)
def test_unknown_names_are_refused(name: str, llama: Any) -> None:
    with pytest.raises(CoreMaskMismatchError, match="LlamaForCausalLM has no such parameter") as caught:
        Parameters(llama).find(name, source="file")
    assert len(str(caught.value)) < 1000


def test_nearest_names(llama: Any) -> None:
    with pytest.raises(CoreMaskMismatchError, match=NAME):
        Parameters(llama).find("model.layers.0.mlp.upproj.weight", source="file")


def test_a_mapping_of_the_bare_model(llama: Any) -> None:
    parameters = Parameters(llama)
    assert list(parameters) == [name for name, _ in llama.named_parameters()]
    assert len(parameters) == len(list(parameters))
    assert parameters[NAME].shape == (48, 32)
    with torch.device("meta"):
        assert Parameters(type(llama)(llama.config))[NAME].shape == (48, 32)

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AwqConfig, BitsAndBytesConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from hf_langcore.architecture import decoder_weights
from hf_langcore.exchange import export_core_mask
from hf_langcore.exchange.quantizer import matrices_by_module
from hf_langcore.masks import CoreMask

CORE = {"model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"}


def concentrated(model: Any) -> CoreMask:
    """One core weight everywhere; in two modules a third of the weights, and in the norms all."""
    planes = {}
    for name, weight in decoder_weights(model).items():
        planes[name] = torch.zeros(weight.shape, dtype=torch.bool)
        planes[name].view(-1)[:1] = True
        if name.removesuffix(".weight") in CORE:
            planes[name].view(-1)[::3] = True
        if len(weight.shape) == 1:
            planes[name][:] = True
    return CoreMask(planes)


def export(mask: CoreMask, path: Path, **options: Any) -> Any:
    export_core_mask(mask, path, format="quantizer", **options)
    return json.loads(path.read_text())


def test_lists(llama: Any, tmp_path: Path) -> None:
    mask = concentrated(llama)
    lists = export(mask, tmp_path / "a.json", threshold=0.3)
    for key in ("llm_int8_skip_modules", "modules_to_not_convert", "ignore"):
        assert set(lists[key]) == CORE | {"lm_head"}
    assert {name: round(share, 2) for name, share in lists["shares"].items()} == dict.fromkeys(CORE, 0.33)
    assert (lists["core_mask"], lists["threshold"]) == (mask.digest(), 0.3)


def test_bitsandbytes_leaves_them_alone(llama: Any, tmp_path: Path) -> None:
    """Load the model in 4 bits with the list: these modules and the head keep their weights, all others do not."""
    llama.save_pretrained(tmp_path / "model")
    names = export(concentrated(llama), tmp_path / "a.json", threshold=0.3, model=llama)["llm_int8_skip_modules"]
    config = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=names)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", quantization_config=config, device_map="cpu")
    quantized = {name for name, module in loaded.named_modules() if type(module).__name__ == "Linear4bit"}
    linear = {name for name, module in llama.named_modules() if isinstance(module, torch.nn.Linear)}
    assert quantized == linear - CORE - {"lm_head"}
    for name in CORE:
        assert torch.equal(loaded.get_submodule(name).weight, llama.get_submodule(name).weight)


def test_other_quantisers_understand_the_names(llama: Any, tmp_path: Path) -> None:
    """Transformers' own matching, for many layers so that layer 1 could be taken for layer 11; and GPTQModel's."""
    lists = export(concentrated(llama), tmp_path / "a.json", threshold=0.3)
    names = [
        f"model.layers.{i}.{part}" for i in range(12) for part in ("mlp.down_proj", "self_attn.q_proj", "mlp.up_proj")
    ]
    config = AwqConfig(modules_to_not_convert=lists["modules_to_not_convert"])
    assert {one for one in names if not should_convert_module(one, config.modules_to_not_convert)} == CORE
    patterns = [one.removeprefix("-:") for one in lists["dynamic"] if one.startswith("-:")]
    assert {one for one in names if any(re.match(pattern, one) for pattern in patterns)} == CORE


def test_the_head_is_named(gpt2: Any, tmp_path: Path) -> None:
    from transformers import GPTNeoXJapaneseConfig, GPTNeoXJapaneseForCausalLM

    neox = GPTNeoXJapaneseForCausalLM(
        GPTNeoXJapaneseConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    for model, head in ((gpt2, "lm_head"), (neox, "embed_out")):
        mask = CoreMask({name: torch.ones(w.shape) > 0 for name, w in decoder_weights(model).items() if "mlp" in name})
        with pytest.warns(UserWarning, match="all of the"):
            assert export(mask, tmp_path / "a.json", model=model, overwrite=True)["ignore"][-1] == head
    wrapped = get_peft_model(gpt2, LoraConfig(target_modules=["c_fc"], fan_in_fan_out=True))
    part = CoreMask({name: torch.ones(w.shape) > 0 for name, w in decoder_weights(gpt2).items() if "attn.c_" in name})
    with pytest.warns(UserWarning, match="all of the"):
        assert export(part, tmp_path / "b.json", model=wrapped)["ignore"][-1] == "lm_head"


@pytest.mark.parametrize(("threshold", "word"), [(None, "all"), (0.9, "none")])
def test_lists_of_all_or_nothing_are_pointed_out(
    threshold: float | None, word: str, llama: Any, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=f"{word} of the 14 modules of the mask count as core"):
        lists = export(concentrated(llama), tmp_path / "a.json", threshold=threshold)
    assert len(lists["ignore"]) == (15 if word == "all" else 1)


def test_modules_of_tensors() -> None:
    """Experts are parameters of their own module; vectors are never quantised."""
    shapes = {
        "a.w.weight": (2, 2),
        "a.w.bias": (2,),
        "a.experts.up": (2, 2, 2),
        "a.experts.down": (2, 2, 2),
        "norm.weight": (2,),
    }
    mask = CoreMask({name: torch.ones(shape) > 0 for name, shape in shapes.items()})
    assert matrices_by_module(mask) == {"a.w": ["a.w.weight"], "a.experts": ["a.experts.up", "a.experts.down"]}

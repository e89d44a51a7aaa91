"""Wanda against a plain rewriting of its formula, and what has no such score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from hf_langcore.data import pack_blocks, start_token
from hf_langcore.errors import NonFiniteError, UnsupportedModelError
from hf_langcore.importance import compute_core_mask, compute_importance
from hf_langcore.importance import gradients as gradients_module

OPTIONS = {"block_size": 12, "progress": False, "method": "wanda"}


def plain_wanda(model: Any, blocks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """abs(W) times the norm of each column of all inputs, stacked in float64, summed over languages."""
    total: dict[str, torch.Tensor] = {}
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module).__name__ in {"Linear", "Conv1D"} and name != "lm_head"
    }
    for ids in blocks.values():
        inputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
        handles = [
            module.register_forward_hook(lambda _, args, __, seen=inputs[name]: seen.append(args[0].flatten(0, 1)))
            for name, module in layers.items()
        ]
        with torch.no_grad():
            model(input_ids=ids)
        for handle in handles:
            handle.remove()
        for name, module in layers.items():
            norms = torch.cat(inputs[name]).double().norm(dim=0)
            weight = module.weight.detach().double().abs()
            score = weight * norms if isinstance(module, nn.Linear) else weight * norms[:, None]
            total[f"{name}.weight"] = total.get(f"{name}.weight", 0) + score
    return total


def blocks_of(texts: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    start = start_token(tokenizer)
    return {
        language: pack_blocks(language, documents, tokenizer, start=start, block_size=12)
        for language, documents in texts.items()
    }


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_scores_and_masks_are_those_of_the_formula(model: Any, tokenizer: Any, texts: Any, fraction: float) -> None:
    """Also where a matrix is stored (in, out), as GPT-2's are; every weight of a linear layer, and nothing else."""
    expected = plain_wanda(model, blocks_of(texts, tokenizer))
    scores = compute_importance(model, tokenizer, texts, batch_size=3, **OPTIONS)
    mask = compute_core_mask(model, tokenizer, texts, fraction=fraction, **OPTIONS)
    assert set(scores) == set(expected) == set(mask)
    assert not any("norm" in name or "ln_" in name or name.endswith("bias") for name in scores)
    for name, values in expected.items():
        assert ((scores[name] - values).abs() <= 1e-6 * values).all()
        chosen = torch.zeros(values.numel(), dtype=torch.bool)
        chosen[values.flatten().topk(int(fraction * values.numel())).indices] = True
        assert torch.equal(mask[name].flatten(), chosen)


def test_batches_do_not_change_the_scores(llama: Any, tokenizer: Any, texts: Any, monkeypatch: Any) -> None:
    """Neither their size nor a split for memory: it is a sum over tokens."""
    whole = compute_importance(llama, tokenizer, texts, batch_size=8, **OPTIONS)
    single = compute_importance(llama, tokenizer, texts, batch_size=1, **OPTIONS)
    monkeypatch.setattr(gradients_module, "_LOGIT_BUDGET", 3 * 12 * llama.config.vocab_size)
    split = compute_importance(llama, tokenizer, texts, batch_size=8, **OPTIONS)
    for name, values in whole.items():
        torch.testing.assert_close(single[name], values, rtol=1e-5, atol=0)
        torch.testing.assert_close(split[name], values, rtol=1e-5, atol=0)


def test_finished_languages_are_kept(llama: Any, tokenizer: Any, texts: Any, tmp_path: Any) -> None:
    """As for the other scorers, and apart from theirs."""
    expected = compute_importance(llama, tokenizer, texts, **OPTIONS)
    compute_importance(llama, tokenizer, {"en": texts["en"]}, resume_dir=tmp_path, **OPTIONS)
    resumed = compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 2
    assert all(torch.equal(values, expected[name]) for name, values in resumed.items())
    compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **{**OPTIONS, "method": "fisher"})
    assert len(list(tmp_path.iterdir())) == 4


def test_through_an_adapter_it_is_the_base(model: Any, tokenizer: Any, texts: Any) -> None:
    """LoRA and CORE_REGION layers call the layer that they wrap, whose inputs are seen."""
    from peft import LoraConfig, get_peft_model

    from hf_langcore import CoreRegionConfig

    plain = compute_core_mask(model, tokenizer, texts, fraction=0.05, **OPTIONS)
    target = "q_proj" if hasattr(model, "model") else "c_attn"
    for config in (
        CoreRegionConfig(core_mask=plain, r=2, init_weights=False, task_type="CAUSAL_LM"),
        LoraConfig(r=2, target_modules=[target], fan_in_fan_out=target == "c_attn", task_type="CAUSAL_LM"),
    ):
        wrapped = get_peft_model(model, config)
        assert compute_core_mask(wrapped, tokenizer, texts, fraction=0.05, **OPTIONS) == plain
        model = wrapped.unload()


def test_matrices_outside_linear_layers_are_refused(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Experts in one tensor and embeddings, by name; an LM head of its own is a linear layer."""
    config = transformers.MixtralConfig(
        vocab_size=120,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    mixtral = transformers.MixtralForCausalLM(config)
    with pytest.raises(UnsupportedModelError, match=r"'model\.layers\.0\.mlp\..*taylor"):
        compute_importance(mixtral, tokenizer, texts, **OPTIONS)
    with pytest.raises(UnsupportedModelError, match=r"'model\.embed_tokens\.weight' of Embedding"):
        compute_importance(llama, tokenizer, texts, include="embeddings", **OPTIONS)
    assert "lm_head.weight" in compute_importance(llama, tokenizer, texts, include="lm_head", **OPTIONS)


def test_layers_without_input_are_refused(llama: Any, tokenizer: Any, texts: Any) -> None:
    """A layer whose weight is used without calling it would score zero; it is named instead."""
    layer = llama.model.layers[0].mlp.up_proj
    llama.model.layers[0].mlp.up_proj = nn.Linear(1, 1)
    llama.model.layers[0].mlp.up_proj.forward = lambda x: nn.functional.linear(x, layer.weight)
    llama.model.layers[0].mlp.hidden = layer
    with pytest.raises(UnsupportedModelError, match=r"'en', the first is 'model\.layers\.0\.mlp\.hidden\.weight'"):
        compute_importance(llama, tokenizer, texts, **OPTIONS)


def test_broken_weights_are_noticed(llama: Any, tokenizer: Any, texts: Any) -> None:
    """NaN inputs give no scores."""
    with torch.no_grad():
        llama.model.layers[0].input_layernorm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="'en' is NaN or infinite"):
        compute_importance(llama, tokenizer, texts, **OPTIONS)

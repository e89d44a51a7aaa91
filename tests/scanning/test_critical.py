"""Norm dimensions ranked by really editing them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.editing import scale_dimension
from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.scanning import critical as critical_module
from hf_langcore.scanning import find_critical_dimensions

OPTIONS = {"max_tokens": 64, "block_size": 32, "progress": False}


def train_on(model: Any, tokenizer: Any, texts: dict[str, list[str]], steps: int = 60) -> None:
    """Let the model learn the texts, so that there is something to lose."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [
        torch.tensor([[1, *tokenizer(t, add_special_tokens=False)["input_ids"]]]) for d in texts.values() for t in d
    ]
    for step in range(steps):
        ids = rows[step % len(rows)][:, :48]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def trained(llama: Any, tokenizer: Any, texts: Any) -> Any:
    train_on(llama, tokenizer, texts)
    return llama


def plant(model: Any, layer: int, twins: tuple[int, int], strength: float = 40.0) -> None:
    """Two dimensions that carry the same and are read with large opposite weights: an edit of either sets them free."""
    first, second = twins
    direction = torch.ones(model.config.intermediate_size)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, second] = model.model.embed_tokens.weight[:, first]
        for block in model.model.layers:
            for writer in (block.self_attn.o_proj, block.mlp.down_proj):
                writer.weight[second] = writer.weight[first]
            for norm in (block.input_layernorm, block.post_attention_layernorm):
                norm.weight[second] = norm.weight[first]
        reader = model.model.layers[layer].mlp.up_proj.weight
        reader[:, first] += strength * direction
        reader[:, second] -= strength * direction


@pytest.mark.parametrize(("layer", "twins"), [(0, (5, 17)), (1, (21, 3)), (1, (30, 0))])
@pytest.mark.parametrize("candidates", [None, 40])
def test_planted_dimensions_are_found_first(
    trained: Any, tokenizer: Any, texts: Any, layer: int, twins: tuple[int, int], candidates: int | None
) -> None:
    """Dimensions that hold each other in balance lead the ranking, also when only a quarter is edited."""
    plant(trained, layer, twins)
    ranking = find_critical_dimensions(trained, tokenizer, texts, candidates=candidates, **OPTIONS)
    name = f"model.layers.{layer}.post_attention_layernorm.weight"
    assert {(one.parameter, one.index) for one in ranking[:2]} == {(name, twin) for twin in twins}
    assert ranking[1].perplexity_ratio > 10


def test_ranking_is_what_edits_really_do(trained: Any, tokenizer: Any, texts: Any) -> None:
    """Every norm dimension is measured, strongest first, and the figures are those of the edit."""
    ranking = find_critical_dimensions(trained, tokenizer, texts, candidates=None, **OPTIONS)
    assert len(ranking) == 5 * 32
    assert len({(one.parameter, one.index) for one in ranking}) == 5 * 32
    ratios = [one.perplexity_ratio for one in ranking]
    assert ratios == sorted(ratios, reverse=True)
    for one in (ranking[0], ranking[-1]):
        with scale_dimension(trained, one.parameter, one.index, factor=one.factor):
            edited = evaluate_perplexity(trained, tokenizer, texts, max_tokens=64, block_size=32, progress=False)
        assert one.perplexity == pytest.approx(edited.mean(), rel=1e-5)
        assert one.axis == 0
    base = evaluate_perplexity(trained, tokenizer, texts, max_tokens=64, block_size=32, progress=False)
    assert ranking[0].base_perplexity == pytest.approx(base.mean(), rel=1e-5)


def test_the_model_is_restored(trained: Any, tokenizer: Any, texts: Any) -> None:
    """Every bit, flag and gradient is as before."""
    before = {name: parameter.detach().clone().view(torch.int32) for name, parameter in trained.named_parameters()}
    find_critical_dimensions(trained, tokenizer, texts, candidates=3, **OPTIONS)
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter.detach().view(torch.int32), before[name])
        assert parameter.requires_grad
        assert parameter.grad is None
    assert not any(module._forward_hooks for module in trained.modules())


def test_works_on_layer_norms_and_through_peft(gpt2: Any, llama: Any, tokenizer: Any, texts: Any) -> None:
    """GPT-2's LayerNorms are norms too, and a wrapped model is scanned by the names of the bare one."""
    from peft import LoraConfig, get_peft_model

    assert find_critical_dimensions(gpt2, tokenizer, texts, candidates=2, **OPTIONS)[0].parameter.startswith(
        "transformer."
    )
    wrapped = get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))
    assert find_critical_dimensions(wrapped, tokenizer, texts, candidates=2, **OPTIONS)[0].parameter.startswith(
        "model."
    )


def test_cheap_signals_find_most_of_what_matters(trained: Any, tokenizer: Any, texts: Any) -> None:
    """A quarter of the dimensions, chosen by the two signals, holds the strongest of all."""
    everything = find_critical_dimensions(trained, tokenizer, texts, candidates=None, **OPTIONS)
    few = find_critical_dimensions(trained, tokenizer, texts, candidates=40, **OPTIONS)
    assert len(few) == 40
    assert (few[0].parameter, few[0].index) == (everything[0].parameter, everything[0].index)


def test_bad_input_is_named(llama: Any, tokenizer: Any, texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No factor, no candidate, no text, no norm: each error says what is needed."""
    with pytest.raises(InputError, match="factor"):
        find_critical_dimensions(llama, tokenizer, texts, factors=(), **OPTIONS)
    with pytest.raises(InputError, match="candidate"):
        find_critical_dimensions(llama, tokenizer, texts, candidates=0, **OPTIONS)
    with pytest.raises(CorpusError):
        find_critical_dimensions(llama, tokenizer, {"en": []}, **OPTIONS)
    monkeypatch.setattr(critical_module, "bare_weights", lambda _model: {})
    with pytest.raises(UnsupportedModelError, match="norm"):
        find_critical_dimensions(llama, tokenizer, texts, **OPTIONS)


def test_a_broken_model_is_an_error(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Where the model itself gives NaN no edit can be compared with it."""
    with torch.no_grad():
        llama.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="'en'"):
        find_critical_dimensions(llama, tokenizer, texts, candidates=2, **OPTIONS)

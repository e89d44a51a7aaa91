"""Planted truth: what is planted at a random place is found first, and on an untrained model nothing is reported."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from hf_langcore.scanning import CriticalScan, find_critical_dimensions

WIDTH, NEURONS, LAYERS, VOCABULARY = 32, 48, 3, 120
OPTIONS = {"max_tokens": 96, "block_size": 32, "progress": False, "candidates": 32, "confirm": 12, "controls": 4}


def build(seed: int = 0, kind: str = "llama", **options: Any) -> Any:
    """A random model of one of three families."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        shape = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
        config = GPT2Config(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, **shape, **options)
        return GPT2LMHeadModel(config).eval()
    shape = {
        "hidden_size": WIDTH,
        "intermediate_size": NEURONS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }
    if kind == "gemma":
        return GemmaForCausalLM(GemmaConfig(vocab_size=VOCABULARY, pad_token_id=0, **shape, **options)).eval()
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, pad_token_id=0, **shape, **options)).eval()


def rows(tokenizer: Any, texts: dict[str, list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of all texts."""
    ids = [[1, *tokenizer(one, add_special_tokens=False)["input_ids"]][:48] for own in texts.values() for one in own]
    width = max(map(len, ids))
    return (
        torch.tensor([row + [0] * (width - len(row)) for row in ids]),
        torch.tensor([row + [-100] * (width - len(row)) for row in ids]),
    )


def train(model: Any, batch: tuple[torch.Tensor, torch.Tensor], steps: int, *, rate: float = 5e-3) -> None:
    """Let a model learn the texts, so that there is something to lose."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        model(input_ids=batch[0], labels=batch[1]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def knowing() -> Any:
    """A small model that knows the texts nearly by heart; to be copied."""
    tokenizer, texts = _tokenizer(), TEXTS
    model = build(initializer_range=0.1)
    train(model, rows(tokenizer, texts), 80)
    return model


TEXTS = {
    "en": ["the cat sat on the mat and looked at the moon", "a dog ran home", "we saw two birds in the old tree"],
    "de": ["die Katze sitzt auf der Matte und sieht den Mond", "ein Hund lief nach Hause", "zwei alte Bäume"],
}


def _tokenizer() -> Any:
    class Bytes:
        bos_token_id, eos_token_id = 1, 2

        def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
            del add_special_tokens
            return {"input_ids": [3 + byte % (VOCABULARY - 3) for byte in text.encode()]}

    return Bytes()


def inputs_of(model: Any, modules: list[Any]) -> list[torch.Tensor]:
    """What goes into modules while the model reads the texts."""
    found: dict[int, torch.Tensor] = {}

    def hook(number: int) -> Any:
        return lambda _module, inputs: found.__setitem__(number, inputs[0].detach())

    handles = [module.register_forward_pre_hook(hook(number)) for number, module in enumerate(modules)]
    ids, labels = rows(_tokenizer(), TEXTS)
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return [found[number][labels != -100] for number in range(len(modules))]


def plant_twin_neurons(model: Any, layer: int, row: int, columns: list[int], height: float) -> None:
    """Two neurons that always give the same, written with opposite signs: together nothing, each alone a super weight."""
    mlp = model.model.layers[layer].mlp
    first, second = columns
    with torch.no_grad():
        for matrix in (mlp.gate_proj, mlp.up_proj):
            matrix.weight[second] = matrix.weight[first]
        mlp.down_proj.weight[:, second] = 0
        strength = height / inputs_of(model, [mlp.down_proj])[0][:, first].abs().mean()
        mlp.down_proj.weight[row, first] += strength
        mlp.down_proj.weight[row, second] -= strength


def plant_twin_dimensions(model: Any, layer: int, twins: list[int], strength: float) -> None:
    """Two residual dimensions that carry the same and are read with large opposite weights."""
    first, second = twins
    with torch.no_grad():
        model.model.embed_tokens.weight[:, second] = model.model.embed_tokens.weight[:, first]
        for block in model.model.layers:
            for writer in (block.self_attn.o_proj, block.mlp.down_proj):
                writer.weight[second] = writer.weight[first]
            for norm in (block.input_layernorm, block.post_attention_layernorm):
                norm.weight[second] = norm.weight[first]
        reader = model.model.layers[layer].mlp.up_proj.weight
        reader[:, first] += strength
        reader[:, second] -= strength


def plant_massive_activation(model: Any, layer: int, row: int, column: int, height: float) -> None:
    """A neuron that is always on writes a constant into one dimension through one weight, as super weights do.

    The dimension carries a constant from the start, which only this neuron reads. What it adds shrinks the output of all later
    norms; their gains make up for it, and a few steps of training settle the rest. Without the weight the gains blow
    everything up.
    """
    block = model.model.layers[layer]
    norms = [norm for one in model.model.layers for norm in (one.input_layernorm, one.post_attention_layernorm)]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, row] = 1.0
        for other in model.model.layers:
            for writer in (other.self_attn.o_proj, other.mlp.down_proj):
                writer.weight[row] = 0
        for norm in (*norms, model.model.norm):
            norm.weight[row] = 0
        block.post_attention_layernorm.weight[row] = 1.0
        for matrix in (block.mlp.gate_proj, block.mlp.up_proj):
            matrix.weight[:, row] = 0
            matrix.weight[column] = 0
            matrix.weight[column, row] = 4.0
        block.mlp.down_proj.weight[:, column] = 0
    later = [*norms[2 * layer + 2 :], model.model.norm]
    before = inputs_of(model, later)
    with torch.no_grad():
        block.mlp.down_proj.weight[row, column] = height / inputs_of(model, [block.mlp.down_proj])[0][:, column].mean()
    for norm, small, large in zip(later, before, inputs_of(model, later), strict=True):
        with torch.no_grad():
            norm.weight *= (large.pow(2).mean() / small.pow(2).mean()).sqrt()
    train(model, rows(_tokenizer(), TEXTS), 30, rate=1e-3)


def scan(model: Any) -> CriticalScan:
    return find_critical_dimensions(model, _tokenizer(), TEXTS, **OPTIONS)


@pytest.mark.parametrize("seed", range(20))
def test_a_super_weight_between_twin_neurons_is_found_first(knowing: Any, seed: int) -> None:
    """Either of the two weights may lead: taking one away does what taking the other away does."""
    model, draw = copy.deepcopy(knowing), random.Random(seed)
    layer, row, columns = draw.randrange(LAYERS), draw.randrange(WIDTH), draw.sample(range(NEURONS), 2)
    plant_twin_neurons(model, layer, row, columns, 100.0)
    found = scan(model)
    assert (found[0].parameter, found[0].kind) == (f"model.layers.{layer}.mlp.down_proj.weight", "weight")
    assert found[0].index in {(row, column) for column in columns}
    assert found[0].perplexity_ratio > 5


@pytest.mark.parametrize("seed", range(15))
def test_a_super_weight_of_a_massive_activation_is_found_first(knowing: Any, seed: int) -> None:
    """The one weight that writes the constant, as in real models."""
    model, draw = copy.deepcopy(knowing), random.Random(seed)
    row, column = draw.randrange(WIDTH), draw.randrange(NEURONS)
    plant_massive_activation(model, 1, row, column, 300.0)
    found = scan(model)
    assert (found[0].parameter, found[0].kind) == ("model.layers.1.mlp.down_proj.weight", "weight")
    assert found[0].index == (row, column)


@pytest.mark.parametrize("seed", range(15))
def test_an_outlier_dimension_is_found_first(knowing: Any, seed: int) -> None:
    """Either of the two gains may lead, and both are reported before any other gain of the norm."""
    model, draw = copy.deepcopy(knowing), random.Random(seed)
    layer, twins = draw.randrange(LAYERS), draw.sample(range(WIDTH), 2)
    plant_twin_dimensions(model, layer, twins, 40.0)
    found = scan(model)
    name = f"model.layers.{layer}.post_attention_layernorm.weight"
    assert (found[0].parameter, found[0].kind) == (name, "norm")
    assert {one.index for one in [one for one in found if one.parameter == name][:2]} == set(twins)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma"])
@pytest.mark.parametrize("seed", range(3))
def test_on_an_untrained_model_nothing_is_reported(kind: str, seed: int) -> None:
    """Neither with small first weights nor with large ones, where single edits of the last norm do a lot."""
    for spread in (0.02, 0.2):
        found = scan(build(seed, kind, initializer_range=spread))
        assert len(found) == 0
        assert len(found.measured) >= 32

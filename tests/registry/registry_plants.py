"""Planted truth: scalars, norm weights and activations that a tiny model cannot do without."""

from __future__ import annotations

from typing import Any

import torch


def all_bits(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter as integers, so that -0.0 differs from 0.0."""
    whole = {2: torch.int16, 4: torch.int32}
    return {
        name: parameter.detach().clone().view(whole[parameter.element_size()])
        for name, parameter in model.named_parameters()
    }


def same_bits(model: Any, before: dict[str, torch.Tensor]) -> bool:
    """Whether a model still holds what `all_bits` saw."""
    return all(torch.equal(now, before[name]) for name, now in all_bits(model).items())


@torch.no_grad()
def plant_scalar(model: Any, layer: int, row: int, columns: tuple[int, int], strength: float = 300.0) -> None:
    """Two neurons that fire alike and cancel each other in one row: without one of the two weights the other bursts out."""
    mlp, (first, second) = model.model.layers[layer].mlp, columns
    for inputs in (mlp.gate_proj.weight, mlp.up_proj.weight):
        inputs[second] = inputs[first]
    mlp.down_proj.weight[:, second] = 0
    mlp.down_proj.weight[row, first] += strength
    mlp.down_proj.weight[row, second] = -strength


@torch.no_grad()
def plant_norm(model: Any, layer: int, twins: tuple[int, int], strength: float = 40.0) -> None:
    """Two residual dimensions that carry the same and are read with opposite weights."""
    first, second = twins
    model.model.embed_tokens.weight[:, second] = model.model.embed_tokens.weight[:, first]
    for block in model.model.layers:
        for writer in (block.self_attn.o_proj, block.mlp.down_proj):
            writer.weight[second] = writer.weight[first]
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight[second] = norm.weight[first]
    reader = model.model.layers[layer].mlp.up_proj.weight
    reader[:, first] += strength
    reader[:, second] -= strength


@torch.no_grad()
def plant_activation(model: Any, dimension: int, size: float) -> None:
    """A dimension that is huge at the start token, all the way up."""
    model.model.embed_tokens.weight[1, dimension] = size


def train(
    model: Any, tokenizer: Any, texts: dict[str, list[str]], *, without: str = "no such part", steps: int = 60
) -> None:
    """Let a model learn texts, without parameters in whose name `without` stands."""
    optimizer = torch.optim.AdamW([one for name, one in model.named_parameters() if without not in name], lr=1e-2)
    rows = [
        torch.tensor([[1, *tokenizer(t, add_special_tokens=False)["input_ids"]]]) for d in texts.values() for t in d
    ]
    for step in range(steps):
        ids = rows[step % len(rows)][:, :48]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.zero_grad()

"""Candidates from one forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.evaluation import prepare_scoring
from hf_langcore.scanning.from_activations import activation_candidates
from hf_langcore.scanning.tensors import Tensors


@pytest.fixture
def task(model: Any, tokenizer: Any, texts: Any) -> Any:
    return prepare_scoring(model, tokenizer, texts, block_size=32, max_tokens=60)


def test_it_takes_exactly_one_forward_pass(model: Any, task: Any) -> None:
    """One call of the model with a batch of all languages, and no hook stays behind."""
    calls: list[torch.Size] = []
    handle = model.register_forward_hook(
        lambda _module, _inputs, named, _output: calls.append(named["input_ids"].shape), with_kwargs=True
    )
    inner: list[int] = []
    layer = model.get_submodule(Tensors.of(model).layers[0])
    watching = layer.register_forward_hook(lambda *_: inner.append(1))
    rankings = activation_candidates(model, Tensors.of(model), task)
    handle.remove()
    watching.remove()
    assert len(calls) == len(inner) == 1
    assert calls[0][0] >= 2
    assert {one.kind for ranking in rankings for one in ranking} == {"norm", "row", "weight"}
    assert all(one.sources == ("activations",) for ranking in rankings for one in ranking)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_spike_of_the_output_leads_to_its_weight(llama: Any, tokenizer: Any, texts: Any) -> None:
    """The weight, the row that writes it, and the gains that read it come first in their rankings."""
    with torch.no_grad():
        llama.model.layers[0].mlp.down_proj.weight[9, 30] = 500.0
    task = prepare_scoring(llama, tokenizer, texts, block_size=32, max_tokens=60)
    rankings = activation_candidates(llama, Tensors.of(llama), task)
    name = "model.layers.0.mlp.down_proj.weight"
    firsts = {ranking[0].place for ranking in rankings}
    assert (name, "weight", (9, 30)) in firsts
    assert any((name, "row", 9) in {one.place for one in ranking[:2]} for ranking in rankings)
    assert any(kind == "norm" and index == 9 for _, kind, index in firsts)


def test_padding_is_not_looked_at(llama: Any, tokenizer: Any) -> None:
    """Whatever the embedding of the padding token is."""
    texts = {"en": ["a longer text than the other one is"], "de": ["kurz"]}
    task = prepare_scoring(llama, tokenizer, texts, block_size=40)
    found = [activation_candidates(llama, Tensors.of(llama), task)]
    with torch.no_grad():
        llama.model.embed_tokens.weight[0] = 1e4
    object.__setattr__(task, "start", type(task.start)(0, "given"))
    found.append(activation_candidates(llama, Tensors.of(llama), task))
    assert [[one.place for one in ranking] for ranking in found[0]] == [
        [one.place for one in ranking] for ranking in found[1]
    ]

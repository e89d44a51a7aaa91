"""One dimension at several strengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity, prepare_scoring
from hf_langcore.recipes.dimensions import scale_sweep
from hf_langcore.recipes.pretraining import TinyModel, pretrain


@pytest.fixture(scope="module")
def tiny() -> Any:
    shape = TinyModel(vocab_size=300, hidden_size=32, intermediate_size=48, layers=1, heads=2, block_size=32, steps=3)
    return pretrain(mini_corpora(["en"], sentences=40), shape=shape, progress=False)


def test_factors_and_generations(tiny: Any) -> None:
    """Base and one condition per factor; a factor of 1 changes nothing, and every factor says how it goes on."""
    model, tokenizer = tiny
    texts = mini_corpora(["en"], sentences=16, start=40)
    task = prepare_scoring(model, tokenizer, texts)
    name = "model.layers.0.input_layernorm"
    sweep = scale_sweep(
        model, tokenizer, task, name, 3, factors=[1, 30], prompt="The teacher", max_new_tokens=4, progress=False
    )
    assert list(sweep.report.conditions) == ["base", "x1", "x30"]
    assert sweep.report["x1"].nll == sweep.report["base"].nll
    assert sweep.report["x30"].nll != sweep.report["base"].nll
    assert sweep.report["base"].nll == evaluate_perplexity(model, tokenizer, texts, progress=False).nll
    assert list(sweep.generations) == ["base", "x1", "x30"]
    assert all(text.startswith("The teacher") for text in sweep.generations.values())
    assert sweep.generations["base"] == sweep.generations["x1"]
    assert (model.get_submodule(name).weight == torch.ones(32)).sum() <= 32


def test_without_prompt_nothing_is_generated(tiny: Any) -> None:
    """Generations only on request; at least one factor."""
    model, tokenizer = tiny
    task = prepare_scoring(model, tokenizer, mini_corpora(["en"], sentences=8))
    name = "model.layers.0.mlp.up_proj"
    assert scale_sweep(model, tokenizer, task, name, 0, axis=0, factors=[0], progress=False).generations == {}
    with pytest.raises(InputError, match="factor"):
        scale_sweep(model, tokenizer, task, name, 0, axis=0, factors=[], progress=False)

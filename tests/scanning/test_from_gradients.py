"""Candidates from the first-order effect of setting something to zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hf_langcore.evaluation import prepare_scoring
from hf_langcore.scanning import from_gradients as module
from hf_langcore.scanning.from_gradients import gradient_candidates
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText


@pytest.mark.parametrize("several", [False, True])
def test_scores_are_gradient_times_weight(
    model: Any, tokenizer: Any, texts: Any, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of gains, entries, rows and columns, whether the text is one batch or several."""
    task = prepare_scoring(model, tokenizer, texts, block_size=32, max_tokens=60)
    if several:
        monkeypatch.setattr(module, "PreparedText", lambda model, task: PreparedText(model, task, batch_size=2))
    found = {ranking[0].kind: ranking for ranking in gradient_candidates(model, Tensors.of(model), task)}
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    text = PreparedText(model, task)
    (sum(batch.nll(model).sum() for batch in text.batches) / text.num_tokens).backward()
    tensors = Tensors.of(model)
    assert set(found) == {"norm", "row", "column", "weight"}
    for kind, ranking in found.items():
        one = ranking[0]
        weight = tensors.weight(one.parameter)
        effect = weight.parameter.grad * weight.parameter.detach()
        effect = effect.T if kind != "norm" and tensors.matrices[one.parameter].is_transposed else effect
        if kind in {"row", "column"}:
            effect = effect.sum(dim=1 if kind == "row" else 0)
        assert one.score == pytest.approx(float(effect[one.index].abs()), rel=1e-3)
        assert one.score == pytest.approx(float(effect.abs().max()), rel=1e-3)
        assert [each.score for each in ranking] == sorted((each.score for each in ranking), reverse=True)


def test_flags_of_frozen_models_stay(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Gradients that were there come back, and what was frozen is frozen."""
    llama.requires_grad_(False)
    kept = nn.Parameter(torch.ones(1))
    llama.model.norm.weight.grad = torch.ones(32)
    task = prepare_scoring(llama, tokenizer, texts, block_size=32, max_tokens=60)
    assert gradient_candidates(llama, Tensors.of(llama), task)
    assert not any(parameter.requires_grad for parameter in llama.parameters())
    assert torch.equal(llama.model.norm.weight.grad, torch.ones(32))
    assert kept.grad is None

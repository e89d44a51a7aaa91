"""Importance from checkpoints of further pretraining."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.importance import importance_from_checkpoints
from hf_langcore.masks import CoreMask


def trained(model: Any, seed: int, size: float = 0.01) -> Any:
    """A copy whose weights moved."""
    moved = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return moved


def test_relative_changes_are_summed_over_languages(model: Any) -> None:
    """The score is abs(dW) / abs(W), summed."""
    checkpoints = {"zh": trained(model, 1), "ar": trained(model, 2)}
    scores = importance_from_checkpoints(model, checkpoints, progress=False)
    for name, values in scores.items():
        old = model.get_parameter(name).detach()
        changes = [(other.get_parameter(name).detach() - old).abs() for other in checkpoints.values()]
        expected = sum(torch.where(change == 0, 0.0, change / old.abs()) for change in changes)
        torch.testing.assert_close(values, expected)
    assert scores.provenance.method == "weight_change"
    assert scores.provenance.languages == ("zh", "ar")


def test_zero_weights(llama: Any) -> None:
    """A weight that is 0 and stays 0 scores 0; one that was 0 and moved scores infinity and is never bottom."""
    weight = llama.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        weight[0, :2] = 0
    moved = trained(llama, 1)
    with torch.no_grad():
        moved.model.layers[0].mlp.up_proj.weight[0, 0] = 0
    scores = importance_from_checkpoints(llama, {"zh": moved}, progress=False)
    name = "model.layers.0.mlp.up_proj.weight"
    assert scores[name][0, 0] == 0
    assert scores[name][0, 1] == float("inf")
    mask = CoreMask.from_scores(scores, fraction=0.5, which="bottom")[name]
    assert mask[0, 0]
    assert not mask[0, 1]


@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
def test_folders_are_read_tensor_by_tensor(model: Any, tmp_path: Path, shard_size: str) -> None:
    """Saved checkpoints, whole or sharded, and a base in a folder give the same scores as live models."""
    moved = trained(model, 3)
    live = importance_from_checkpoints(model, {"zh": moved}, progress=False)
    model.save_pretrained(tmp_path / "base")
    moved.save_pretrained(tmp_path / "zh", max_shard_size=shard_size)
    stored = importance_from_checkpoints(tmp_path / "base", {"zh": str(tmp_path / "zh")}, progress=False)
    assert all(torch.equal(values, live[name]) for name, values in stored.items())


def test_bad_checkpoints_are_named(llama: Any, gpt2: Any, tmp_path: Path) -> None:
    """No checkpoint, another model, an empty folder or NaN: the error names language and tensor."""
    with pytest.raises(InputError, match="got none"):
        importance_from_checkpoints(llama, {})
    with pytest.raises(CoreMaskMismatchError, match="'zh'"):
        importance_from_checkpoints(llama, {"zh": gpt2}, progress=False)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        importance_from_checkpoints(llama, {"zh": tmp_path}, progress=False)
    broken = trained(llama, 1)
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layers\.1.*'zh'"):
        importance_from_checkpoints(llama, {"zh": broken}, progress=False)

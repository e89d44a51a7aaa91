"""Importance from checkpoints of further pretraining."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

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


@pytest.fixture
def mixtral() -> Any:
    """A mixture of experts, whose tensors transformers saves under other names, one for each expert."""
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    return transformers.MixtralForCausalLM(config)


def test_folders_in_another_layout_are_loaded(mixtral: Any, tmp_path: Path) -> None:
    """Saved mixtures of experts give the same scores as live ones."""
    moved = {"zh": trained(mixtral, 1), "ar": trained(mixtral, 2)}
    for language, model in moved.items():
        model.save_pretrained(tmp_path / language)
    names = load_file(tmp_path / "zh/model.safetensors")
    assert "model.layers.0.mlp.experts.gate_up_proj" not in names
    live = importance_from_checkpoints(mixtral, moved, progress=False)
    stored = importance_from_checkpoints(mixtral, {key: tmp_path / key for key in moved}, progress=False)
    assert "model.layers.0.mlp.experts.gate_up_proj" in stored
    assert all(torch.equal(values, live[name]) for name, values in stored.items())


def test_missing_tensors_are_named_in_full(llama: Any, gpt2: Any, tmp_path: Path) -> None:
    """Another architecture, a folder without a config, and a tensor that loading would make up."""
    gpt2.save_pretrained(tmp_path / "gpt2")
    with pytest.raises(CoreMaskMismatchError, match=r"'zh' has no tensor 'model\.layers\.0\."):
        importance_from_checkpoints(llama, {"zh": tmp_path / "gpt2"}, progress=False)
    (tmp_path / "gpt2/config.json").unlink()
    with pytest.raises(CoreMaskMismatchError, match=r"no tensor 'model\.layers\.0\..*cannot load the folder"):
        importance_from_checkpoints(llama, {"zh": tmp_path / "gpt2"}, progress=False)
    llama.save_pretrained(tmp_path / "part")
    tensors = load_file(tmp_path / "part/model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "part/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CoreMaskMismatchError, match=r"no tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        importance_from_checkpoints(llama, {"zh": tmp_path / "part"}, progress=False)


@pytest.mark.parametrize("damage", ["truncated", "shard", "missing shard", "index", "index of another form"])
def test_damaged_checkpoints_are_refused(llama: Any, tmp_path: Path, damage: str) -> None:
    """Files that are cut off, missing or no JSON: the error names language and file."""
    folder = tmp_path / "zh"
    llama.save_pretrained(folder, max_shard_size="5GB" if damage == "truncated" else "20KB")
    tensors, index = sorted(folder.glob("*.safetensors")), folder / "model.safetensors.index.json"
    if damage in ("truncated", "shard"):
        for path in tensors:
            path.write_bytes(path.read_bytes()[:-40])
    elif damage == "missing shard":
        for path in tensors[1:]:
            path.unlink()
    else:
        index.write_text("{" if damage == "index" else json.dumps({"weight_map": [1]}))
    with pytest.raises(InputError, match=r"The checkpoint of 'zh' cannot be read: '.*model.*'.*Save or download"):
        importance_from_checkpoints(llama, {"zh": folder}, progress=False)


def test_damaged_checkpoints_in_another_layout_are_refused(mixtral: Any, tmp_path: Path) -> None:
    """What transformers cannot read is no mismatch of architectures."""
    mixtral.save_pretrained(tmp_path / "zh", max_shard_size="20KB")
    for path in (tmp_path / "zh").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="The checkpoint of 'zh' cannot be read"):
        importance_from_checkpoints(mixtral, {"zh": tmp_path / "zh"}, progress=False)


def test_bases_that_cannot_be_loaded(llama: Any, tmp_path: Path) -> None:
    """A wrong path, no repository name, or a damaged folder: the error names the base and what is taken."""
    llama.save_pretrained(tmp_path / "base")
    weights = tmp_path / "base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    for base in (tmp_path / "nothing", "no/such/model", "nobody/no-model", tmp_path / "base"):
        with pytest.raises(InputError, match=r"(?s)base='.*' cannot be loaded .*from_pretrained"):
            importance_from_checkpoints(base, {"zh": llama}, progress=False)


@pytest.mark.parametrize("checkpoints", [["out/zh"], "out/zh", None, {}])
def test_checkpoints_are_a_mapping(llama: Any, checkpoints: Any) -> None:
    """Anything else is refused with the form that is taken."""
    got = "none" if checkpoints == {} else type(checkpoints).__name__
    with pytest.raises(InputError, match=f"must map language codes to models or folders.*got {got}"):
        importance_from_checkpoints(llama, checkpoints)
    with pytest.raises(InputError, match="'zh' must be a model or a folder, got NoneType"):
        importance_from_checkpoints(llama, {"zh": None})

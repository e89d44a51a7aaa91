from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from hf_langcore.errors import CoreMaskFormatError, CoreMaskMismatchError, InputError
from hf_langcore.exchange import import_core_mask

Save = Callable[..., Path]
MATRIX, NORM = "model.layers.1.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"


def differences() -> dict[str, torch.Tensor]:
    """A sparse change of a matrix and of a vector."""
    torch.manual_seed(0)
    matrix = torch.randn(48, 32) * (torch.rand(48, 32) < 0.05)
    return {MATRIX: matrix, NORM: torch.eye(32)[3]}


def encoded(dense: torch.Tensor) -> dict[str, Any]:
    """As composable-sft's files hold a difference: the first index runs fastest, and the first step is numpy's."""
    flat = dense.t().reshape(-1) if dense.dim() > 1 else dense
    places = flat.nonzero().view(-1).numpy()
    steps = np.diff(places, prepend=0).tolist()
    if steps:
        steps[0] = np.int64(steps[0])
    return {"size": dense.size(), "index_steps": steps, "values": flat[places]}


def as_lists(dense: torch.Tensor) -> dict[str, Any]:
    sparse = dense.to_sparse().coalesce()
    return {"size": dense.size(), "indices": sparse.indices().tolist(), "values": sparse.values().tolist()}


def sparse(dense: torch.Tensor) -> torch.Tensor:
    return dense.to_sparse().coalesce()


@pytest.mark.parametrize("key", ["diffs", "body"])
@pytest.mark.parametrize("form", [encoded, as_lists, sparse, torch.clone])
def test_composable_files(key: str, form: Callable[[torch.Tensor], Any], saved: Save, llama: Any) -> None:
    """All forms that its files have had, in a folder as on the Hub."""
    path = saved({key: {name: form(dense) for name, dense in differences().items()}}, "pytorch_diff.bin")
    mask = import_core_mask(path.parent, llama)
    assert list(mask) == [MATRIX, NORM]
    for name, dense in differences().items():
        assert torch.equal(mask[name], dense != 0)
    assert str(mask.provenance.operation).startswith("imported sparse difference's changed weights, from")


@given(st.lists(st.tuples(st.integers(0, 47), st.integers(0, 31)), unique=True, max_size=20), st.booleans())
def test_any_positions(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]], with_zero: bool
) -> None:
    """Listed differences that are zero are no changes."""
    dense = torch.zeros(48, 32)
    for row, column in places:
        dense[row, column] = 1
    one = encoded(dense)
    if with_zero and places:
        one["values"] = one["values"].clone()
        one["values"][0] = 0
        first = dense.t().reshape(-1).nonzero().view(-1)[0]
        dense[first % 48, first // 48] = 0
    path = tmp_path_factory.mktemp("diff") / "pytorch_diff.bin"
    torch.save({"diffs": {MATRIX: one}, "abs": {}}, path)
    mask = import_core_mask(path, _llama())
    assert torch.equal(mask[MATRIX], dense != 0)


@cache
def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=9, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def test_sparse_tensors_by_name(saved: Save, llama: Any) -> None:
    mask = import_core_mask(saved({name: sparse(dense) for name, dense in differences().items()}), llama)
    assert torch.equal(mask[MATRIX], differences()[MATRIX] != 0)


def test_pairs_in_safetensors(llama: Any, tmp_path: Path) -> None:
    tensors = {}
    for name, dense in differences().items():
        tensors[f"{name}.indices"], tensors[f"{name}.values"] = sparse(dense).indices(), sparse(dense).values()
    save_file(tensors, tmp_path / "diff.safetensors")
    mask = import_core_mask(tmp_path / "diff.safetensors", llama)
    assert all(torch.equal(mask[name], dense != 0) for name, dense in differences().items())


def test_dense_differences(llama: Any, tmp_path: Path) -> None:
    save_file(differences(), tmp_path / "diff.safetensors")
    with pytest.raises(InputError, match='format="sparse_diff" takes what is not zero'):
        import_core_mask(tmp_path / "diff.safetensors", llama)
    mask = import_core_mask(tmp_path / "diff.safetensors", llama, format="sparse_diff")
    assert torch.equal(mask[MATRIX], differences()[MATRIX] != 0)


@pytest.mark.parametrize("key", ["abs", "head"])
def test_tensors_given_in_full_are_left_out(key: str, saved: Save, llama: Any) -> None:
    path = saved({"diffs": {NORM: encoded(differences()[NORM])}, key: {"lm_head.weight": torch.ones(120, 32)}})
    with pytest.warns(UserWarning, match=r"1 tensors in full and not as differences \(lm_head.weight\)"):
        assert list(import_core_mask(path, llama)) == [NORM]


def changed(**changes: Any) -> dict[str, Any]:
    return {**encoded(torch.eye(48, 32)), **changes}


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (changed(index_steps=[0] + [1] * 30), "expected 32 whole numbers"),
        (changed(index_steps=[0] + [0] * 31), "not positive"),
        (changed(index_steps=[-1] + [1] * 31), "not positive"),
        (changed(index_steps=[1] * 31 + [1 << 61]), "not positive or too large"),
        (changed(index_steps=[1] * 31 + [1 << 300]), "expected 32 whole numbers"),
        (changed(index_steps=[1500] * 32), "lies outside"),
        (changed(index_steps=[1.5] * 32), "expected 32 whole numbers"),
        (changed(index_steps=[True] * 32), "expected 32 whole numbers"),
        (changed(index_steps="x" * 32), "expected 32 whole numbers"),
        (changed(values=torch.full((32,), float("nan"))), "NaN"),
        (changed(values=torch.ones(2000)), "at most 1,536 differences"),
        (changed(values=[1 << 1500] * 32), "at most 1,536 differences"),
        (changed(values=None), "at most 1,536 differences"),
        ({"indices": [[0, 0], [1, 1]], "values": [1.0, 2.0]}, "stands twice"),
        ({"indices": [[48], [0]], "values": [1.0]}, "outside 0 to 47"),
        ({"indices": [[0]], "values": [1.0]}, "expected 2 rows"),
        ({"indices": torch.zeros(3, 1).long(), "values": [1.0]}, "its indices have shape"),
        ({"values": [1.0]}, "without indices"),
        ([1.0], "without indices"),
    ],
)
def test_damaged_differences(given_: Any, reason: str, saved: Save, llama: Any) -> None:
    with pytest.raises(CoreMaskFormatError, match=reason):
        import_core_mask(saved({"diffs": {MATRIX: given_}}), llama)


@pytest.mark.parametrize("size", [(32, 48), (1 << 40, 1 << 40), (48,), "ab", None])
def test_other_shapes(size: Any, saved: Save, llama: Any) -> None:
    """Whatever is declared, the model's shape is what counts, and nothing else is allocated."""
    with pytest.raises(CoreMaskMismatchError, match=r"has shape \(48, 32\)"):
        import_core_mask(saved({"diffs": {MATRIX: changed(size=size)}}), llama)


def test_other_models(saved: Save, llama: Any) -> None:
    with pytest.raises(CoreMaskMismatchError, match="no such parameter"):
        import_core_mask(saved({"diffs": {"bert.pooler.dense.weight": encoded(torch.eye(3))}}), llama)
    twice = {MATRIX: encoded(torch.eye(48, 32)), MATRIX.removeprefix("model."): encoded(torch.eye(48, 32))}
    with pytest.raises(CoreMaskFormatError, match="as another tensor does"):
        import_core_mask(saved({"diffs": twice}), llama)


@pytest.mark.parametrize("content", [{"diffs": {}}, {"diffs": {1: torch.ones(2)}}, [torch.ones(2)], {"a": 1}])
def test_no_differences(content: Any, saved: Save, llama: Any) -> None:
    with pytest.raises(InputError, match="holds no differences"):
        import_core_mask(saved(content), llama, format="sparse_diff")

"""Entries of one's own for tiny models, and an own file for each test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

from registry_plants import train

DOWN = "model.layers.{layer}.mlp.down_proj.weight"
NORM = "model.layers.{layer}.input_layernorm.weight"


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own coordinates of this test lie."""
    monkeypatch.setenv("HF_LANGCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "registry.json"


@pytest.fixture
def fields() -> Callable[..., dict[str, Any]]:
    """The fields of an entry about one scalar, with changes."""

    def build(**changes: Any) -> dict[str, Any]:
        values = {
            "id": "one",
            "model_id": "me/tiny",
            "kind": "super_weight",
            "tensor": DOWN,
            "layer": 1,
            "index": [5, 7],
            "operation": "zero",
            "expected": "explodes",
            "source": "A test",
            "source_kind": "user",
            "status": "confirmed",
            "status_reason": "It was planted.",
            **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    return build


@pytest.fixture
def norm_fields(fields: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The fields of an entry about one norm weight, with changes."""

    def build(**changes: Any) -> dict[str, Any]:
        usual = {"kind": "norm_weight", "tensor": NORM, "axis": 0, "index": 5, "operation": "scale", "value": 10.0}
        return fields(**{**usual, **changes})

    return build


@pytest.fixture
def long_texts(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Enough documents for an interval."""
    return {language: documents * 4 for language, documents in texts.items()}


_LEARNT: dict[str, torch.Tensor] = {}  # training takes a second, and many tests begin with it


@pytest.fixture
def trained(llama: Any, tokenizer: Any, texts: dict[str, list[str]]) -> Any:
    """A Llama that has learnt the texts, so that there is something to lose."""
    if not _LEARNT:
        train(llama, tokenizer, texts)
        _LEARNT.update({name: value.clone() for name, value in llama.state_dict().items()})
    llama.load_state_dict(_LEARNT)
    return llama

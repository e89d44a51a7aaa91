"""One entry: reading, writing, and what cannot be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from hf_langcore.registry import Entry

EFFECT = {"metric": "perplexity", "data": "texts", "operation": "zero", "base": 2.0, "after": 6.0, "ratio": 3.0}


def test_an_entry_survives_json(fields: Callable[..., Any]) -> None:
    """Infinite figures too, which JSON has no number for."""
    values = fields(effect={**EFFECT, "after": "inf", "ratio": "inf", "jointly": True}, aliases=["Tiny"])
    entry = Entry.from_dict(values)
    assert entry.effect is not None
    assert entry.effect.after == math.inf
    assert entry.is_joint
    assert Entry.from_dict(json.loads(json.dumps(entry.to_dict(), allow_nan=False))) == entry


def test_names_and_coordinates(fields: Callable[..., Any], norm_fields: Callable[..., Any]) -> None:
    """In the notation of the papers."""
    down = "model.layers.1.mlp.down_proj.weight"
    assert Entry.from_dict(fields()).coordinate() == f"{down}[5, 7]"
    assert Entry.from_dict(fields(kind="dimension", axis=1, index=7)).coordinate() == f"{down}[:, 7]"
    assert Entry.from_dict(fields(kind="dimension", axis=0, index=5)).coordinate() == f"{down}[5]"
    assert Entry.from_dict(fields(kind="dimension", axis=1, index=[2, 7])).coordinate() == f"{down}[2, :, 7]"
    two = Entry.from_dict(norm_fields(which="unspecified", alternatives=["model.layers.{layer}.other.weight"]))
    assert two.tensors == ("model.layers.1.input_layernorm.weight", "model.layers.1.other.weight")
    assert two.coordinate() == "model.layers.1.input_layernorm.weight or model.layers.1.other.weight[5]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensor": None}, "needs a tensor and an index"),
        ({"layer": None}, r"\{layer\} stands in the tensor exactly where a layer is given"),
        ({"tensor": "lm_head.weight"}, r"\{layer\} stands in the tensor"),
        ({"index": 5}, r"the index of a super_weight has 2 or 3 number\(s\), got 5"),
        ({"kind": "norm_weight", "axis": 0}, r"has 1 number\(s\), got \(5, 7\)"),
        ({"kind": "dimension", "index": 5}, "the axis of a dimension is 0 or 1, got None"),
        ({"axis": 1}, "the axis of a super_weight is None, got 1"),
        ({"operation": None}, "an operation is needed"),
        ({"operation": "set"}, "a value goes with"),
        ({"value": 3.0}, "a value goes with"),
        ({"operation": "mean-set"}, "'mean-set' is for activations"),
        ({"which": "unspecified"}, "exactly where alternatives are named"),
        ({"alternatives": ["a.{layer}.weight"]}, "exactly where alternatives are named"),
        ({"effect": {**EFFECT, "operation": "scale", "value": 2.0}}, "another operation than the entry"),
        ({"effect": {**EFFECT, "ratio": 4.0}}, "the ratio 4.0 is not after / base = 3"),
        ({"effect": {**EFFECT, "base": 0.0}}, "a perplexity is above zero"),
        ({"kind": "note", "index": None}, "a note has a text and no index"),
        ({"kind": "massive_activation", "index": None}, "tensor and index go together"),
        ({"kind": "massive_activation", "index": 3, "operation": "scale", "value": 2.0}, "zeroed or set to their mean"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(fields: Callable[..., Any], changes: dict[str, Any], message: str) -> None:
    """Each field alone may be right."""
    with pytest.raises(ValueError, match=message):
        Entry.from_dict(fields(**changes))

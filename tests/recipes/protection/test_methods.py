"""The ways of fine-tuning that are compared."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hf_langcore.errors import ConfigurationError
from hf_langcore.recipes.protection.methods import ANCHOR, FULL, WEIGHTED, Method, standard_methods
from hf_langcore.recipes.protection.report import PAIRS


def test_every_protection_has_its_control() -> None:
    """Plain fine-tuning at several rates, masks of equal size, adapters with and without a core, data without a freeze."""
    methods = standard_methods()
    rates = {method.learning_rate for method in methods if method.curve == FULL}
    assert len(rates) == 5
    alone = {method.frozen for method in methods if not method.general_data_ratio and method.anchor_strength is None}
    assert alone == {None, "core", "random", "magnitude", "columns", "random columns"}
    adapters = {method.adapter["peft_type"] for method in methods if isinstance(method.adapter, dict)}
    assert adapters == {"LORA", "CORE_REGION"}
    assert {method.frozen for method in methods if method.general_data_ratio == 5} == {None, "core"}
    assert len({method.anchor_strength for method in methods if method.curve == ANCHOR}) == 3
    assert all(method.weighted for method in methods if method.curve == WEIGHTED)
    assert any(method.frozen and method.anchor_strength for method in methods)


def test_names_tell_methods_apart() -> None:
    """Names are the keys of files and tables; every compared pair exists and shares its learning rate."""
    methods = {method.name: method for method in standard_methods()}
    assert len(methods) == len(standard_methods())
    for method, control in PAIRS:
        assert methods[method].learning_rate == methods[control].learning_rate
        assert methods[method] != methods[control]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.0}, "above 0"),
        ({"learning_rate": math.inf}, "above 0"),
        ({"learning_rate": True}, "above 0"),
        ({"frozen": "corr"}, "needs frozen as one of core, random"),
        ({"frozen": ["core"]}, "needs frozen as one of core, random"),
        ({"general_data_ratio": "5"}, "needs general_data_ratio"),
        ({"general_data_ratio": -1}, "needs general_data_ratio"),
        ({"anchor_strength": "0.1"}, "needs anchor_strength"),
        ({"anchor_strength": -0.1}, "needs anchor_strength"),
        ({"weighted": True}, "needs weighted .* beside anchor_strength"),
        ({"anchor_strength": 0.1, "weighted": "no"}, "needs weighted"),
        ({"adapter": "LORA"}, "needs adapter as a config"),
        ({"adapter": {"peft_type": "LORA"}, "frozen": "core"}, "freezes or anchors"),
        ({"adapter": {"peft_type": "LORA"}, "anchor_strength": 0.1}, "freezes or anchors"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: str) -> None:
    """Values that are none, what would be passed over, and an adapter beside protections of the weights."""
    with pytest.raises(ConfigurationError, match=words):
        Method("one", **values)

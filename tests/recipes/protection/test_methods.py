"""The ways of fine-tuning that are compared."""

from __future__ import annotations

from hf_langcore.recipes.protection.methods import ANCHOR, FULL, WEIGHTED, standard_methods
from hf_langcore.recipes.protection.report import PAIRS


def test_every_protection_has_its_control() -> None:
    """Plain fine-tuning at several rates, masks of equal size, adapters with and without a core, data without a freeze."""
    methods = standard_methods()
    rates = {method.learning_rate for method in methods if method.curve == FULL}
    assert len(rates) == 5
    alone = {method.frozen for method in methods if not method.general_data_ratio and method.anchor_strength is None}
    assert alone == {None, "core", "random", "magnitude", "columns", "random columns"}
    assert {method.adapter for method in methods} == {None, "lora", "core"}
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

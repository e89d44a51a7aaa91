from __future__ import annotations

import copy
import json
import pickle

import pytest
from peft import PeftConfig, get_peft_config
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.peft_types import PeftType

from hf_langcore.errors import ConfigurationError
from hf_langcore.tuner import CoreRegionConfig, CoreRegionModel
from hf_langcore.tuner.registration import ensure_peft_type, register


def test_the_member_is_one_of_the_enumeration() -> None:
    """CORE_REGION behaves like the members that PEFT declares: by attribute, value, name, membership and order."""
    member = PeftType("CORE_REGION")
    assert member is PeftType.CORE_REGION is PeftType["CORE_REGION"]
    assert isinstance(member, PeftType)
    assert (member.name, member.value) == ("CORE_REGION", "CORE_REGION")
    assert member in PeftType
    assert list(PeftType)[-1] is member
    assert member == "CORE_REGION"
    assert repr(member) == "<PeftType.CORE_REGION: 'CORE_REGION'>"


def test_the_member_survives_copies_and_files() -> None:
    """Pickle and deepcopy give the same object, JSON the name, and the hash that of the raw string of a config file."""
    member = PeftType("CORE_REGION")
    assert pickle.loads(pickle.dumps(member)) is member  # noqa: S301 made on this line
    assert copy.deepcopy(member) is member
    assert json.dumps(member) == '"CORE_REGION"'
    assert hash(member) == hash("CORE_REGION")
    assert {member: 1}["CORE_REGION"] == 1


def test_peft_knows_the_method() -> None:
    """All tables of PEFT lead from the name to the classes and the prefix."""
    member = PeftType("CORE_REGION")
    assert PEFT_TYPE_TO_CONFIG_MAPPING[member] is CoreRegionConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[member] is CoreRegionModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[member] == "core_region_"
    assert isinstance(get_peft_config({"peft_type": "CORE_REGION", "r": 3}), CoreRegionConfig)
    assert isinstance(PeftConfig.from_peft_type(peft_type="CORE_REGION"), CoreRegionConfig)


def test_registering_again_changes_nothing() -> None:
    """A second registration neither raises nor adds a second member."""
    before = len(PeftType)
    register()
    assert ensure_peft_type() is PeftType("CORE_REGION")
    assert len(PeftType) == before


def test_another_method_of_that_name_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """If PEFT has a CORE_REGION of its own one day, registering says so instead of taking its place."""

    class Other(PeftConfig):
        pass

    monkeypatch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, PeftType("CORE_REGION"), Other)
    with pytest.raises(ConfigurationError, match="already has a method called CORE_REGION"):
        register()
    assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType("CORE_REGION")] is Other

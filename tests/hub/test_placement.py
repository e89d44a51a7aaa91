"""Results of edited models never stand on the page of the model that was edited, whatever its name is called."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_langcore.errors import HubError, InputError
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.placement import require_right_place, same_repository

BASE = EvalRecord(model="ada/base", condition="base", language="en", tokens=9, nll=1.0, perturbed=False)
ZEROED = replace(BASE, condition="top 3 %", perturbed=True, how="zero: top 3 %", core_mask_repo="ada/core")
UNKNOWN = replace(BASE, condition="top 3 %", perturbed=None)
ADAPTED = replace(BASE, adapter="default (LORA)")


@pytest.fixture
def hub(online: Any) -> Any:
    online.hub.create("ada/base", files={"config.json": "{}"})
    return online.hub


@pytest.mark.parametrize(
    ("record", "target", "base_models"),
    [
        (ZEROED, "ada/base", []),
        (ZEROED, "ADA/Base", []),
        (ZEROED, "base", []),
        (replace(ZEROED, model="Ada/BASE"), "ada/base", []),
        (replace(ZEROED, model="base"), "ada/base", []),
        (replace(ZEROED, model="other/model", base_model="ada/base"), "ada/base", []),
        (replace(ZEROED, model="other/model"), "ada/base", ["ada/base"]),
        (replace(ZEROED, condition="base"), "ada/base", []),
        (replace(ZEROED, model="missing/model"), "missing/model", []),
        (UNKNOWN, "ada/base", []),
        (replace(UNKNOWN, condition="model"), "ada/base", []),
        (ADAPTED, "ada/base", []),
        (replace(ADAPTED, model="ada/adapter", base_model="ada/base"), "ada/base", []),
        (replace(BASE, model="ada/tuned", base_model="ada/base"), "ada/base", []),
    ],
)
def test_misplaced(hub: Any, record: EvalRecord, target: str, base_models: list[str]) -> None:
    """The message names condition, repository and where to go instead."""
    with pytest.raises(InputError, match="do not belong to") as caught:
        require_right_place([BASE, record], target, base_models=base_models)
    assert repr(record.condition) in str(caught.value)
    assert ("ada/core" if record is ZEROED else "of their own") in str(caught.value)


@pytest.mark.parametrize(
    ("record", "target"),
    [
        (ZEROED, "ada/core"),
        (ZEROED, "ada/base-core-mask"),
        (ZEROED, "other/base"),
        (UNKNOWN, "ada/core"),
        (BASE, "ada/base"),
        (replace(BASE, perturbed=None), "ada/base"),
        (replace(UNKNOWN, perturbed=False), "ada/base"),
        (ADAPTED, "ada/adapter"),
        (replace(ADAPTED, model="ada/adapter", base_model="ada/base"), "ada/adapter"),
    ],
)
def test_well_placed(hub: Any, record: EvalRecord, target: str) -> None:
    """The mask's repository, others, and the model's own for what the model itself can do."""
    require_right_place([record], target)


@pytest.mark.parametrize(
    ("model", "target"),
    [("old/name", "new/name"), ("new/name", "old/name"), ("old/name", "OLD/name"), ("old/name", "elsewhere/it")],
)
def test_renamed_repositories(monkeypatch: pytest.MonkeyPatch, model: str, target: str) -> None:
    """The Hub answers under the present name, whichever is asked for."""
    names = {"old/name": "new/name", "OLD/name": "new/name", "elsewhere/it": "new/name"}
    monkeypatch.setattr(HfApi, "model_info", lambda self, name: SimpleNamespace(id=names.get(name, name)))
    with pytest.raises(InputError, match="'new/name'"):
        require_right_place([replace(ZEROED, model=model)], target)
    require_right_place([replace(ZEROED, model=model)], "third/name")


def test_nothing_is_taken_for_granted(online: Any) -> None:
    """Where the Hub cannot say what a repository is called now, nothing is pushed."""
    online.hub.create("ada/core")
    online.hub.fault("status", path="ada/base", status=500, times=None)
    with pytest.raises(HubError, match="Cannot look up 'ada/base'"):
        require_right_place([ZEROED], "ada/core")


def test_names() -> None:
    """Case does not tell repositories apart; a name alone may be anybody's."""
    assert same_repository("A/b", "a/B")
    assert same_repository("b", "a/B")
    assert not same_repository("a/b", "c/b")
    assert not same_repository("a/b", "a/c")

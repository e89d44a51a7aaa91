"""Which masks there are for a model, from cards that anybody may have written."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import HubError, InputError
from hf_langcore.hub.search import list_core_masks

CARD = """---
library_name: hf_langcore
base_model: org/base
license: mit
language: [en, zh]
tags: [core-mask]
core_mask:
  method: taylor
  fraction: 0.03
  digest: abc
  base_revision: 0123
---
# A mask
"""


def test_masks_of_a_model_are_listed(online: Any) -> None:
    """By tag and base model; other masks and other repositories of the model are not."""
    sha = online.hub.create("me/core", files={"README.md": CARD})
    online.hub.create("me/other-base", files={"README.md": CARD.replace("org/base", "org/base-chat")})
    online.hub.create("me/adapter", files={"README.md": CARD.replace("core-mask", "lora")})
    online.hub.create("other/hidden", private=True, files={"README.md": CARD})
    (found,) = list_core_masks("org/base")
    assert (found.repo_id, found.revision, found.base_model) == ("me/core", sha, "org/base")
    assert (found.method, found.fraction, found.digest, found.license) == ("taylor", 0.03, "abc", "mit")
    assert found.languages == ("en", "zh")
    assert found.updated is not None
    assert not found.private


def test_an_author_and_a_limit(online: Any) -> None:
    """Over several pages."""
    online.hub.configure(page_size=2)
    for number in range(5):
        online.hub.create(f"me/core-{number}", files={"README.md": CARD})
    online.hub.create("other/core", files={"README.md": CARD})
    assert len(list_core_masks("org/base")) == 6
    assert len(list_core_masks("org/base", limit=None)) == 6
    assert len(list_core_masks("org/base", limit=3)) == 3
    assert [one.repo_id for one in list_core_masks("org/base", author="other")] == ["other/core"]
    assert list_core_masks("org/nothing") == []


def test_a_dead_hub_is_asked_by_huggingface_hub_alone(online: Any) -> None:
    """It tries several times itself; ours on top would be many minutes."""
    online.hub.fault("status", status=503, times=None)
    with pytest.raises(HubError, match="try again later"):
        list_core_masks("org/base")
    assert len(online.hub.log("GET", "/api/models")) <= 6


@pytest.mark.parametrize(
    "facts", ["core_mask: 5", "core_mask: [1]", "core_mask:\n  method: 3\n  fraction: x\n  digest: {}", "core_mask:"]
)
def test_strange_cards_are_listed_without_facts(online: Any, facts: str) -> None:
    head, _, _ = CARD.partition("core_mask:")
    online.hub.create("me/core", files={"README.md": f"{head}{facts}\n---\n"})
    (found,) = list_core_masks("org/base")
    assert (found.method, found.fraction, found.digest, found.base_revision) == (None, None, None, None)


@pytest.mark.parametrize("base", ["base", "a/b/c", "", "me/a b"])
def test_no_model(online: Any, base: str) -> None:
    with pytest.raises(InputError):
        list_core_masks(base)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_no_limit(limit: Any) -> None:
    with pytest.raises(InputError, match="limit must be"):
        list_core_masks("org/base", limit=limit)


def test_a_hub_that_cannot_be_asked(online: Any) -> None:
    online.offline()
    with pytest.raises(HubError, match="list the core masks of 'org/base'"):
        list_core_masks("org/base")

"""Adapters and masks by name: what PEFT users write when both are on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from card_models import mask_of, tiny_llama
from peft import PeftModel, get_peft_model

from hf_langcore import CoreMask, CoreRegionConfig
from hf_langcore.errors import ConfigurationError, CoreMaskFormatError, HubNotFoundError
from hf_langcore.tuner import sources


@pytest.fixture
def published(online: Any, tmp_path: Path) -> tuple[CoreMask, CoreMask, str]:
    """Two masks in one repository, and the commit of the first."""
    first = mask_of(tiny_llama())
    first.save_pretrained(tmp_path / "first")
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    commit = online.hub.create("me/core", files=files)
    second = first.random_like(seed=3).with_provenance(first.provenance)
    second.save_pretrained(tmp_path / "second")
    online.hub.commit("me/core", {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()})
    return first, second, commit


def test_a_mask_by_name_and_revision(published: tuple[CoreMask, CoreMask, str]) -> None:
    """Wrapping loads it; the adapter knows where it is from."""
    first, second, commit = published
    for revision, expected in ((None, second), ("main", second), (commit, first)):
        config = CoreRegionConfig(core_mask="me/core", core_mask_revision=revision, r=2, task_type="CAUSAL_LM")
        model = get_peft_model(tiny_llama(), config)
        found = model.peft_config["default"].core_mask
        assert found == expected
        assert (found.origin.repo_id, found.origin.revision == commit) == ("me/core", revision == commit)


def test_a_revision_that_is_none(published: tuple[CoreMask, CoreMask, str], tmp_path: Path) -> None:
    published[0].save_pretrained(tmp_path / "mask")
    with pytest.raises(HubNotFoundError, match="Check the revision"):
        get_peft_model(tiny_llama(), CoreRegionConfig(core_mask="me/core", core_mask_revision="v9"))
    with pytest.raises(ConfigurationError, match="has no revisions"):
        get_peft_model(tiny_llama(), CoreRegionConfig(core_mask=str(tmp_path / "mask"), core_mask_revision="v9"))


def test_an_adapter_by_name(online: Any, published: tuple[CoreMask, CoreMask, str]) -> None:
    """With its mask, which lies beside it, in the same revision; offline from then on."""
    model = get_peft_model(
        tiny_llama(), CoreRegionConfig(core_mask="me/core", r=2, init_weights=False, task_type="CAUSAL_LM")
    )
    repo = f"{online.hub.user}/adapter"
    model.push_to_hub(repo)
    ids = torch.tensor([[3, 4, 5]])
    expected = model.eval()(ids).logits
    for _ in range(2):
        loaded = PeftModel.from_pretrained(tiny_llama(), repo).eval()
        assert torch.equal(loaded(ids).logits, expected)
        assert loaded.peft_config["default"].core_mask == published[1]
        online.offline()


def test_the_mask_comes_from_the_adapters_revision(online: Any, published: tuple[CoreMask, CoreMask, str]) -> None:
    """And one that was exchanged there is refused."""
    repo = f"{online.hub.user}/adapter"
    get_peft_model(tiny_llama(), CoreRegionConfig(core_mask="me/core", r=2, task_type="CAUSAL_LM")).push_to_hub(repo)
    whole = online.hub.commits(repo)[0]["sha"]
    other = {
        name: content for name, content in online.hub.files("me/core", published[2]).items() if "core_mask" in name
    }
    online.hub.commit(repo, other)
    with pytest.raises(CoreMaskFormatError, match="not the one that the adapter was trained with"):
        CoreRegionConfig.from_pretrained(repo)
    assert CoreRegionConfig.from_pretrained(repo, revision=whole).core_mask == published[1]


def test_an_adapter_without_its_mask_keeps_the_description(
    online: Any, published: tuple[CoreMask, CoreMask, str]
) -> None:
    """The bits travel in the adapter's weights, too."""
    repo = f"{online.hub.user}/adapter"
    get_peft_model(tiny_llama(), CoreRegionConfig(core_mask="me/core", r=2, task_type="CAUSAL_LM")).push_to_hub(repo)
    online.hub.commit(repo, {"core_mask.safetensors": None, "core_mask_config.json": None})
    description = sources.describe(published[1])
    assert sources.saved_core_mask(repo, None, description, {}) is description
    core = PeftModel.from_pretrained(tiny_llama(), repo).base_model.core_mask
    assert core == published[1].restricted_to(set(core))

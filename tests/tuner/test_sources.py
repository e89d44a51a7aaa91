from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import ConfigurationError, HubError, InputError
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.tuner import CoreRegionConfig, sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CoreMask({"w": torch.tensor([True, False])}).save_pretrained(tmp_path / "mask")
    return tmp_path / "mask"


def test_a_folder_is_read(folder: Path) -> None:
    """A path leads to the mask in it."""
    assert sources.load_core_mask(str(folder), None).count() == 1


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A path without a mask raises the mask's own error; nothing is asked on the Hub."""
    with pytest.raises(InputError, match="no core mask in"):
        sources.load_core_mask(str(tmp_path / "nothing" / "here"), None)
    with pytest.raises(InputError, match="no core mask in"):
        sources.load_core_mask("./nothing", None)


def test_folders_have_no_revision(folder: Path) -> None:
    """A revision that would be ignored is refused."""
    with pytest.raises(ConfigurationError, match="has no revisions"):
        sources.load_core_mask(str(folder), "main")


def test_a_mistyped_folder_in_a_config(llama: Any) -> None:
    """It looks like a repository, so that the message says both; nothing is asked while offline."""
    with pytest.raises(
        HubError, match=r"There is no folder 'out/my-cor' .* taken for a Hub repository.*only what is in the cache"
    ):
        get_peft_model(llama, CoreRegionConfig(core_mask="out/my-cor"))


def test_an_adapter_without_mask_files_keeps_its_description(folder: Path, tmp_path: Path) -> None:
    """The bits are in the adapter's weights, so nothing is lost; also of a repository that is not in the cache."""
    description = sources.describe(CoreMask.from_pretrained(folder))
    assert sources.saved_core_mask(str(tmp_path), None, description, {}) is description
    assert sources.saved_core_mask("me/adapter", None, description, {}) is description


@pytest.mark.parametrize("method, which", [("magnitude", "top"), ("random", "random")])
def test_masks_from_weights(llama: Any, method: str, which: str) -> None:
    """The mask covers every decoder-layer weight, has the right size, and says whose weights it was made from."""
    mask = sources.computed_core_mask(llama, decoder_weights(llama), method=method, fraction=0.1, seed=3)
    weights = decoder_weights(llama)
    assert set(mask) == set(weights)
    assert all(mask.count(name) == int(0.1 * weight.parameter.numel()) for name, weight in weights.items())
    assert (mask.provenance.method, mask.provenance.which, mask.provenance.fraction) == (method, which, 0.1)
    assert mask.provenance.seed == (3 if method == "random" else None)
    assert mask.provenance.base_fingerprint is not None
    assert set(mask.provenance.base_fingerprint.tensors) == set(weights)


def test_magnitude_takes_the_largest(llama: Any) -> None:
    """Every chosen weight is at least as large as every other of its tensor."""
    mask = sources.computed_core_mask(llama, decoder_weights(llama), method="magnitude", fraction=0.1, seed=0)
    name = "model.layers.0.mlp.up_proj.weight"
    values = decoder_weights(llama)[name].parameter.detach().abs()
    assert values[mask[name]].min() >= values[~mask[name]].max()


def test_random_depends_on_the_seed_only(llama: Any) -> None:
    """The same seed gives the same mask, another seed another one."""
    masks = [
        sources.computed_core_mask(llama, decoder_weights(llama), method="random", fraction=0.1, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert masks[0] == masks[1] != masks[2]


def test_renamed_parameters_are_found(llama: Any, make_mask: Any) -> None:
    """A mask from before transformers renamed a model's parameters fits by the model's own rules, bit for bit."""
    mask = make_mask(llama)
    old = CoreMask({name.removeprefix("model."): mask.packed(name) for name in mask}, provenance=mask.provenance)
    assert sources.in_todays_names(old, llama) is old
    llama._checkpoint_conversion_mapping = {"^layers": "model.layers"}
    renamed = sources.in_todays_names(old, llama)
    assert renamed == mask
    assert sources.in_todays_names(mask, llama) is mask
    llama._checkpoint_conversion_mapping = {"^layers": "somewhere.layers"}
    assert sources.in_todays_names(old, llama) is old


def test_no_path_of_the_machine_is_saved(llama: Any, tmp_path: Path) -> None:
    """Adapters are pushed as they are saved; a folder's name is enough, and repositories stay as they are."""
    mask = CoreMask({"w": torch.tensor([True])}, provenance=Provenance(base_model=str(tmp_path / "secret" / "base")))
    config = CoreRegionConfig(core_mask=mask, task_type="CAUSAL_LM")
    config.save_pretrained(str(tmp_path / "adapter"))
    for path in (tmp_path / "adapter").iterdir():
        assert b"secret" not in path.read_bytes(), path.name
    saved = CoreMask.from_pretrained(tmp_path / "adapter")
    assert (saved, saved.provenance.base_model) == (mask, "base")
    on_the_hub = mask.with_provenance(Provenance(base_model="me/base"))
    assert sources.without_paths(on_the_hub) is on_the_hub

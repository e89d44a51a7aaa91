from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from peft import get_peft_model

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.masks import CoreMask
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


def test_a_repository_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`owner/name` fetches the two files of the mask at the revision, nothing else."""
    asked: dict[str, Any] = {}

    def download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(folder)

    monkeypatch.setattr(sources, "snapshot_download", download)
    assert sources.load_core_mask("me/my-core", "abc").count() == 1
    assert (asked["repo_id"], asked["revision"]) == ("me/my-core", "abc")
    assert sorted(asked["allow_patterns"]) == ["core_mask.safetensors", "core_mask_config.json"]


_RESPONSE: Any = SimpleNamespace(headers={}, request=None)
HUB_ERRORS = [
    LocalEntryNotFoundError("offline"),
    EntryNotFoundError("no such file"),
    RepositoryNotFoundError("no such repository", response=_RESPONSE),
    HfHubHTTPError("forbidden", response=_RESPONSE),
    HFValidationError("bad id"),
    ConnectionError("no network"),
]


@pytest.mark.parametrize("error", HUB_ERRORS, ids=lambda error: type(error).__name__)
def test_repositories_that_cannot_be_read(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most often a mistyped folder: the message says what was expected, what came and what to do."""

    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(sources, "snapshot_download", fail)
    monkeypatch.setattr(sources, "hf_hub_download", fail)
    message = (
        r"core_mask='out/my-cor' at revision 'abc' expected a folder.*there is no such folder.*Check the spelling"
    )
    with pytest.raises(InputError, match=message) as caught:
        sources.load_core_mask("out/my-cor", "abc")
    assert caught.value.__cause__ is error
    if not isinstance(error, EntryNotFoundError):
        with pytest.raises(InputError, match="adapter='me/adapter' expected a folder"):
            sources.saved_core_mask("me/adapter", None, {"digest": "x"}, {})


def test_a_mistyped_folder_in_a_config(llama: Any) -> None:
    """The same through PEFT, with the real download."""
    with pytest.raises(InputError, match="core_mask='out/my-cor' expected a folder with a core mask"):
        get_peft_model(llama, CoreRegionConfig(core_mask="out/my-cor"))


def test_an_adapters_mask_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of an adapter on the Hub comes with the options that its config was loaded with."""
    asked: list[tuple[Any, ...]] = []

    def download(repo_id: str, name: str, *, subfolder: str | None, revision: str) -> str:
        asked.append((repo_id, name, subfolder, revision))
        return str(folder / name)

    monkeypatch.setattr(sources, "hf_hub_download", download)
    description = sources.describe(CoreMask.from_pretrained(folder))
    found = sources.saved_core_mask("me/adapter", None, description, {"revision": "abc"})
    assert isinstance(found, CoreMask)
    assert [(row[0], row[3]) for row in asked] == [("me/adapter", "abc")] * 2


def test_an_adapter_without_mask_files_keeps_its_description(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the Hub or in a folder: the bits are in the adapter's weights, so nothing is lost."""

    def download(*_: Any, **__: Any) -> str:
        raise EntryNotFoundError("no such file")

    monkeypatch.setattr(sources, "hf_hub_download", download)
    description = sources.describe(CoreMask.from_pretrained(folder))
    assert sources.saved_core_mask("me/adapter", None, description, {}) is description
    assert sources.saved_core_mask(str(tmp_path), None, description, {}) is description


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

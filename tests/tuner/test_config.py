from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig

from hf_langcore.errors import ConfigurationError, CoreMaskFormatError, InputError, LangCoreError
from hf_langcore.masks import CoreMask, Fingerprint, Provenance
from hf_langcore.tuner import CoreRegionConfig


@pytest.fixture
def mask() -> CoreMask:
    provenance = Provenance(
        method="taylor",
        tokens={"zh": 5, "en": 7},
        base_fingerprint=Fingerprint({f"t{i}": "0" * 16 for i in range(99)}),
    )
    return CoreMask({"w": torch.tensor([True, False, True])}, provenance=provenance)


def test_defaults_are_those_of_lora() -> None:
    """Rank, scaling and dropout start as in LoRA; TRL reads the last two fields of any config."""
    config = CoreRegionConfig()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 8, 0.0)
    assert (config.modules_to_save, config.trainable_token_indices) == (None, None)
    assert (config.target_parameters, config.rank_pattern, config.alpha_pattern) == (None, {}, {})
    assert config.rank_pattern is not CoreRegionConfig().rank_pattern
    assert config.allow_core_changes is False
    assert config.fraction == 0.03
    assert config.peft_type.value == "CORE_REGION"


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"core_mask": "folder", "method": "random"}, ConfigurationError, "Give one of them"),
        ({"core_mask_revision": "main"}, ConfigurationError, "needs a core_mask"),
        ({"method": "taylor"}, InputError, "compute_core_mask"),
        ({"fraction": 0.0}, InputError, "strictly between"),
        ({"fraction": 1}, InputError, "strictly between"),
        ({"r": -1}, InputError, "whole number"),
        ({"r": 1.5}, InputError, "whole number"),
        ({"r": True}, InputError, "whole number"),
        ({"rank_pattern": {"q_proj": -1}}, InputError, "whole number"),
        ({"rank_pattern": {"k_proj": 2, "q_proj": 1.5}}, InputError, "got 1.5"),
        ({"lora_dropout": 1.0}, InputError, "below 1"),
        (
            {"target_parameters": "experts.down_proj"},
            TypeError,
            "`target_parameters` must be a list of strings or None",
        ),
        ({"base_check": "maybe"}, InputError, "base_check must be"),
        ({"core_mask": {"w": torch.tensor([True])}}, InputError, "CoreMask\\(\\{name: tensor\\}\\)"),
        ({"core_mask": 3}, InputError, "got int"),
        ({"target_modules": "all-linear", "layers_to_transform": [0]}, ConfigurationError, "already says which"),
        (
            {"target_modules": ["q_proj"], "layers_pattern": "layers"},
            ConfigurationError,
            "`layers_to_transform` must also be specified",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """Each wrong option raises this library's error, which is a ValueError for those who do not know it."""
    with pytest.raises(error, match=words) as caught:
        CoreRegionConfig(**options)
    assert isinstance(caught.value, (LangCoreError, ValueError))


def test_a_name_in_place_of_a_list_is_an_error_of_ours_and_of_pefts() -> None:
    """PEFT raises a TypeError there, this library a ValueError; both are caught."""
    for error in (TypeError, InputError, ValueError):
        with pytest.raises(error, match="Put it in a list"):
            CoreRegionConfig(target_parameters="experts.down_proj")  # type: ignore[arg-type]


def test_patterns_and_parameters_are_saved(mask: CoreMask, tmp_path: Path) -> None:
    """The config file holds them as they were given, names of parameters in their order."""
    options: dict[str, Any] = {
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "rank_pattern": {"q_proj": 2, r".*\.1\..*": 0},
        "alpha_pattern": {"q_proj": 1.5},
        "allow_core_changes": True,
    }
    CoreRegionConfig(core_mask=mask, **options).save_pretrained(str(tmp_path))
    loaded = CoreRegionConfig.from_pretrained(str(tmp_path))
    assert {name: getattr(loaded, name) for name in options} == options


def test_configs_of_earlier_versions_load(mask: CoreMask, tmp_path: Path) -> None:
    """A file without the newer fields gives their defaults."""
    CoreRegionConfig(core_mask=mask, r=5).save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("target_parameters", "rank_pattern", "alpha_pattern", "allow_core_changes"):
        del values[name]
    path.write_text(json.dumps(values), encoding="utf-8")
    loaded = CoreRegionConfig.from_pretrained(str(tmp_path))
    assert (loaded.r, loaded.target_parameters, loaded.rank_pattern, loaded.allow_core_changes) == (5, None, {}, False)


def test_a_path_may_be_given_as_path(tmp_path: Path) -> None:
    """Pathlib paths become strings, which JSON can hold."""
    assert CoreRegionConfig(core_mask=tmp_path).core_mask == str(tmp_path)


def test_a_mask_is_written_as_its_description(mask: CoreMask) -> None:
    """The dict form holds identity, size and origin; neither bits nor the digests of single tensors."""
    values = CoreRegionConfig(core_mask=mask, target_modules=["b", "a"]).to_dict()
    text = json.dumps(values)
    assert values["core_mask"]["digest"] == mask.digest()
    assert (values["core_mask"]["weights"], values["core_mask"]["core_weights"]) == (3, 2)
    assert values["core_mask"]["provenance"]["tokens"] == {"zh": 5, "en": 7}
    assert "total" in text
    assert "t42" not in text
    assert len(text) < 2000
    assert values["target_modules"] == ["a", "b"]
    assert values["peft_type"] == "CORE_REGION"


def test_dict_form_makes_a_config_again(mask: CoreMask) -> None:
    """What to_dict gives can be given to the constructor."""
    values = CoreRegionConfig(core_mask=mask, r=3).to_dict()
    assert CoreRegionConfig(**values).to_dict() == values


def test_copies(mask: CoreMask) -> None:
    """Deepcopy shares the immutable mask; pickle carries it whole."""
    config = CoreRegionConfig(core_mask=mask, r=5, target_modules=["q_proj"])
    assert copy.deepcopy(config).core_mask is mask
    loaded = pickle.loads(pickle.dumps(config))  # noqa: S301 made on this line
    assert loaded == config
    assert loaded.core_mask == mask
    assert loaded.peft_type is config.peft_type


def test_save_and_load_carry_the_mask(mask: CoreMask, tmp_path: Path) -> None:
    """The folder of a config also holds the mask, and loading brings it back with its whole provenance."""
    CoreRegionConfig(core_mask=mask, r=5, task_type="CAUSAL_LM").save_pretrained(str(tmp_path))
    loaded = CoreRegionConfig.from_pretrained(str(tmp_path))
    assert loaded.core_mask == mask
    assert loaded.core_mask.provenance == mask.provenance
    assert (loaded.r, loaded.task_type) == (5, "CAUSAL_LM")


def test_saving_replaces_the_mask_of_an_earlier_save(mask: CoreMask, tmp_path: Path) -> None:
    """Saving over an adapter with another core leaves config and mask of the new one."""
    CoreRegionConfig(core_mask=mask).save_pretrained(str(tmp_path))
    CoreRegionConfig(core_mask=~mask).save_pretrained(str(tmp_path))
    assert CoreRegionConfig.from_pretrained(str(tmp_path)).core_mask == ~mask


def test_a_mask_by_path_is_saved_with_the_config(mask: CoreMask, tmp_path: Path) -> None:
    """The saved folder does not point to another folder, which may be gone tomorrow."""
    mask.save_pretrained(tmp_path / "mask")
    CoreRegionConfig(core_mask=str(tmp_path / "mask")).save_pretrained(str(tmp_path / "adapter"))
    assert str(tmp_path / "mask") not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert CoreRegionConfig.from_pretrained(str(tmp_path / "adapter")).core_mask == mask


def test_a_recipe_is_saved_as_a_recipe(tmp_path: Path) -> None:
    """Before any model was wrapped there is no mask to save, only how to make one."""
    CoreRegionConfig(method="random", fraction=0.1, mask_seed=4).save_pretrained(str(tmp_path))
    loaded = CoreRegionConfig.from_pretrained(str(tmp_path))
    assert (loaded.method, loaded.fraction, loaded.mask_seed, loaded.core_mask) == ("random", 0.1, 4, None)


def test_subfolders_work(mask: CoreMask, tmp_path: Path) -> None:
    """PEFT saves further adapters in subfolders; each has its own mask."""
    CoreRegionConfig(core_mask=mask).save_pretrained(str(tmp_path / "second"))
    assert CoreRegionConfig.from_pretrained(str(tmp_path), subfolder="second").core_mask == mask


def test_a_swapped_mask_is_noticed(mask: CoreMask, tmp_path: Path) -> None:
    """Another mask in the adapter's folder is an error: the adapter was not trained around it."""
    CoreRegionConfig(core_mask=mask).save_pretrained(str(tmp_path))
    (~mask).save_pretrained(tmp_path, overwrite=True)
    with pytest.raises(CoreMaskFormatError, match="not the one that the adapter was trained with"):
        CoreRegionConfig.from_pretrained(str(tmp_path))


def test_peft_config_gives_the_description(mask: CoreMask, tmp_path: Path) -> None:
    """PeftConfig.from_pretrained never asks our class, so the mask stays a description; the class is right."""
    CoreRegionConfig(core_mask=mask).save_pretrained(str(tmp_path))
    loaded = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(loaded, CoreRegionConfig)
    assert loaded.core_mask["digest"] == mask.digest()
    loaded.save_pretrained(str(tmp_path / "again"))
    assert CoreRegionConfig.from_pretrained(str(tmp_path / "again")).core_mask == loaded.core_mask

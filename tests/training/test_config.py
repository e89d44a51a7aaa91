"""CoreRegionSFTConfig: what a YAML file can say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import HfArgumentParser
from trl import SFTConfig

from hf_langcore.errors import InputError
from hf_langcore.training import CoreRegionSFTConfig

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")

TOKEN = "hf_a_token_of_somebody"  # noqa: S105 no real one


def make(tmp_path: Path, **changes: Any) -> CoreRegionSFTConfig:
    return CoreRegionSFTConfig(str(tmp_path), use_cpu=True, **changes)


def test_the_defaults_are_those_of_trl_and_the_published_ratio(tmp_path: Path) -> None:
    """Nothing of TRL changes; general data comes five to one, counted in rows."""
    ours, theirs = make(tmp_path).to_dict(), SFTConfig(str(tmp_path), use_cpu=True).to_dict()
    added = {key: value for key, value in ours.items() if key not in theirs}
    assert {key: value for key, value in ours.items() if key in theirs and key != "logging_dir"} == {
        key: value for key, value in theirs.items() if key != "logging_dir"
    }
    assert added == {
        "core_mask": None,
        "core_mask_revision": None,
        "base_check": "error",
        "protection": "freeze",
        "anchor_strength": 0.01,
        "anchor_importance": None,
        "anchor_base": None,
        "mask_gradients": False,
        "core_damage": None,
        "sentinel": None,
        "sentinel_every": 100,
        "sentinel_limit": 1.2,
        "sentinel_on_breach": "warn",
        "general_dataset": None,
        "general_data_weights": None,
        "self_replay_rows": 0,
        "self_replay_texts": None,
        "self_replay_tokens": 256,
        "self_replay_temperature": 1.0,
        "self_replay_top_p": 1.0,
        "self_replay_cache": None,
        "general_data_ratio": 5.0,
        "general_data_by": "rows",
        "on_out_of_memory": "halve",
    }


def test_a_yaml_file_says_everything(tmp_path: Path) -> None:
    """The fields parse from YAML and from the command line."""
    path = tmp_path / "sft.yaml"
    path.write_text(
        f"output_dir: {tmp_path}\nuse_cpu: true\ncore_mask: my-core\nbase_check: warn\n"
        "general_dataset: repo:config:train\ngeneral_data_ratio: 8\ngeneral_data_by: tokens\n"
    )
    (config,) = HfArgumentParser(CoreRegionSFTConfig).parse_yaml_file(str(path))
    assert (config.core_mask, config.base_check, config.general_dataset) == ("my-core", "warn", ["repo:config:train"])
    assert (config.general_data_ratio, config.general_data_by) == (8, "tokens")
    options = ["--output_dir", str(tmp_path), "--use_cpu", "--general_data_ratio", "2.5"]
    (config,) = HfArgumentParser(CoreRegionSFTConfig).parse_args_into_dataclasses(options)
    assert config.general_data_ratio == 2.5


def test_every_field_has_help() -> None:
    """The command line shows them."""
    theirs = SFTConfig.__dataclass_fields__
    added = [one for name, one in CoreRegionSFTConfig.__dataclass_fields__.items() if name not in theirs]
    assert len(added) > 20
    assert all(one.metadata["help"].endswith(".") for one in added)


@pytest.mark.parametrize(
    "wrong",
    [
        {"general_data_ratio": -1.0},
        {"general_data_ratio": float("nan")},
        {"general_data_ratio": float("inf")},
        {"general_data_by": "words"},
        {"base_check": "maybe"},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """When the configuration is made, not when training starts."""
    with pytest.raises(InputError, match=next(iter(wrong)).removeprefix("general_data_")):
        make(tmp_path, **wrong)


def test_no_token_is_written(tmp_path: Path) -> None:
    """Transformers pickles the arguments beside the model and uploads them."""
    args = make(tmp_path, hub_token=TOKEN)
    torch.save(args, tmp_path / "training_args.bin")
    assert TOKEN.encode() not in (tmp_path / "training_args.bin").read_bytes()
    loaded = torch.load(tmp_path / "training_args.bin", weights_only=False)
    assert (loaded.hub_token, loaded.output_dir) == (None, args.output_dir)
    assert TOKEN not in args.to_json_string()
    for copied in (copy.copy(args), copy.deepcopy(args)):
        assert copied.hub_token == TOKEN
        assert copied is not args

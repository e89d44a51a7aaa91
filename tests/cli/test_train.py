"""`langcore sft`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_langcore import CoreMask

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture
def job(langcore: Any, model_folder: str, tmp_path: Path) -> Any:
    """A mask, task rows and general rows."""
    langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q")
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(12)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = [{"text": f"The teacher saw {i} cats."} for i in range(30)]
    (tmp_path / "general.jsonl").write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
    return lambda *options: langcore(
        "sft", model_folder, "--dataset", "task.jsonl", "--learning-rate", "1e-3", "--batch-size", 4, *options
    )


def changed(before: str, after: Path, mask: CoreMask) -> tuple[int, int]:
    old = AutoModelForCausalLM.from_pretrained(before, dtype=torch.float32)
    new = AutoModelForCausalLM.from_pretrained(after, dtype=torch.float32)
    core = others = 0
    for name in mask:
        differs = new.get_parameter(name).view(torch.int32) != old.get_parameter(name).view(torch.int32)
        core, others = core + int((differs & mask[name]).sum()), others + int((differs & ~mask[name]).sum())
    return core, others


def test_the_core_is_kept_and_general_data_is_mixed(job: Any, model_folder: str, tmp_path: Path) -> None:
    """No core weight of the saved model differs, other weights do, and the mixture is reported."""
    outcome = job("--core-mask", "core", "--general", "general.jsonl", "--ratio", 2, "-o", "tuned", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out[outcome.out.index('{\n  "output"') :])
    assert (facts["mixture"]["task_rows"], facts["mixture"]["general_rows"]) == (12, 24)
    core, others = changed(model_folder, tmp_path / "tuned", CoreMask.from_pretrained(tmp_path / "core"))
    assert core == 0
    assert others > 0


def test_adapter(job: Any, tmp_path: Path) -> None:
    """--adapter-rank trains a CORE_REGION adapter and saves it with its mask."""
    assert job("--core-mask", "core", "--adapter-rank", 2, "-o", "adapter").code == 0
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("CORE_REGION", 2)
    assert CoreMask.from_pretrained(tmp_path / "adapter") == CoreMask.from_pretrained(tmp_path / "core")


def test_yaml_fields_win(job: Any, tmp_path: Path) -> None:
    """Any field of CoreRegionSFTConfig may stand in a YAML file."""
    (tmp_path / "run.yaml").write_text("max_steps: 1\ncore_mask: core\nlogging_steps: 1\n")
    outcome = job("--config", "run.yaml", "--epochs", 3, "-o", "tuned")
    assert outcome.code == 0
    assert (tmp_path / "tuned" / "checkpoint-1").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--core-mask", "nowhere"], "no core mask"),
        (["--adapter-rank", "2"], "needs --core-mask"),
        (["--general", "missing.jsonl"], "missing.jsonl"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--config", "list.yaml"], "must map"),
        (["--config", "unknown.yaml"], "no_such_field"),
    ],
)
def test_bad_input_is_named(job: Any, tmp_path: Path, options: list[str], message: str) -> None:
    """Each wrong value gets one clear message, and no model is written."""
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "unknown.yaml").write_text("no_such_field: 1\n")
    outcome = job(*options, "-o", "tuned")
    assert outcome.code == 1, outcome.out + outcome.err
    assert message in outcome.err
    assert not (tmp_path / "tuned" / "model.safetensors").exists()


def test_an_existing_folder_is_not_trained_into(job: Any, tmp_path: Path) -> None:
    """A folder that is not empty is refused before the model is loaded."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "precious.txt").write_text("x")
    outcome = job("-o", "tuned")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err

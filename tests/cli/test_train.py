"""`langcore sft`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask
from hf_langcore.cli import train
from hf_langcore.cli.training_options import training_config

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture
def job(langcore: Any, model_folder: str, tmp_path: Path) -> Any:
    """A mask, task rows and general rows."""
    langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q")
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(12)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = [{"text": f"The teacher saw {i} cats."} for i in range(30)]
    (tmp_path / "general.jsonl").write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
    fixed = ("--dataset", "task.jsonl", "--learning-rate", "1e-3", "--batch-size", 4)
    return lambda *options, model=model_folder: langcore("sft", model, *fixed, *options)


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
    facts = json.loads(outcome.out)  # all of it: the Trainer's lines are on standard error
    assert "train_runtime" in outcome.err
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


def test_yaml_numbers(job: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyYAML reads 1e-4 as text; fields that are numbers get numbers, of the kind that they are."""
    made = []
    monkeypatch.setattr(train, "training_config", lambda *a, **k: made.append(training_config(*a, **k)) or made[0])
    lines = ["learning_rate: 1e-4", "max_steps: 1e0", "max_length: '64'", "neftune_noise_alpha: null", "seed: 3"]
    (tmp_path / "run.yaml").write_text("\n".join([*lines, "general_data_ratio: 2e0", "run_name: 1e-4"]))
    outcome = job("--config", "run.yaml", "-o", "tuned")
    assert outcome.code == 0, outcome.err
    (args,) = made
    assert (args.learning_rate, args.max_steps, args.max_length, args.seed) == (1e-4, 1, 64, 3)
    assert type(args.max_steps) is int
    assert (args.neftune_noise_alpha, args.general_data_ratio, args.run_name) == (None, 2.0, "1e-4")


def test_base_check_reaches_the_adapter(job: Any, model_folder: str, tmp_path: Path) -> None:
    """A mask of other weights is refused, with an adapter too, unless --base-check says otherwise."""
    other = AutoModelForCausalLM.from_pretrained(model_folder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "other")
    options = ("--core-mask", "core", "--adapter-rank", 2, "--max-steps", 1, "-o", "adapter")
    refused = job(*options, model=tmp_path / "other")
    assert refused.code == 1
    assert "weights" in refused.err
    assert job(*options, "--base-check", "off", model=tmp_path / "other").code == 0


def test_forms_of_sft_trainer(job: Any, tmp_path: Path) -> None:
    """Text in a column that the YAML file names is a known form too."""
    rows = [{"content": f"The teacher saw {i} cats."} for i in range(8)]
    (tmp_path / "content.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "run.yaml").write_text("dataset_text_field: content\nmax_steps: 1\n")
    assert job("--dataset", "content.jsonl", "--config", "run.yaml", "-o", "tuned").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--core-mask", "nowhere"], "no core mask"),
        (["--adapter-rank", "2"], "needs --core-mask"),
        (["--general", "missing.jsonl"], "missing.jsonl"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--config", "list.yaml"], "must map"),
        (["--config", "unknown.yaml"], "no_such_field"),
        (["--config", "output.yaml"], "--output"),
        (["--config", "core.yaml", "--core-mask", "core"], "--core-mask"),
        (["--config", "fast.yaml"], "learning_rate must be a number, got 'fast'"),
        (["--config", "half.yaml"], "max_steps must be a whole number, got 1.5"),
        (["--config", "latin.yaml"], "no readable YAML"),
        (["--dataset", "odd.jsonl"], "no known form"),
        (["--dataset", "empty.txt"], "no rows"),
        (["--dataset", "chat.jsonl"], "chat template"),
        (["--dataset", "sharegpt.jsonl"], "chat template"),
    ],
)
def test_bad_input_is_named(job: Any, tmp_path: Path, options: list[str], message: str) -> None:
    """Each wrong value gets one clear message, and no model is written."""
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "unknown.yaml").write_text("no_such_field: 1\n")
    (tmp_path / "output.yaml").write_text("output_dir: elsewhere\n")
    (tmp_path / "core.yaml").write_text("core_mask: core\n")
    (tmp_path / "fast.yaml").write_text("learning_rate: fast\n")
    (tmp_path / "half.yaml").write_text("max_steps: 1.5\n")
    (tmp_path / "latin.yaml").write_bytes(b"run_name: \xe9\n")
    (tmp_path / "odd.jsonl").write_text('{"question": "1 + 1 =", "answer": "2"}\n')
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "chat.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    (tmp_path / "sharegpt.jsonl").write_text('{"conversations": [{"from": "human", "value": "Hi"}]}\n')
    outcome = job(*options, "-o", "tuned")
    assert outcome.code == 1, outcome.out + outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "tuned" / "model.safetensors").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_an_existing_folder_is_not_trained_into(job: Any, tmp_path: Path) -> None:
    """A folder that is not empty is refused before the model is loaded."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "precious.txt").write_text("x")
    outcome = job("-o", "tuned")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err

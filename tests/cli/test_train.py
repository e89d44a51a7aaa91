"""`langcore sft`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

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


def test_yaml_fields(job: Any, tmp_path: Path) -> None:
    """Any field of CoreRegionSFTConfig may stand in a YAML file."""
    (tmp_path / "run.yaml").write_text("max_steps: 1\ncore_mask: core\nlogging_steps: 1\n")
    outcome = job("--config", "run.yaml", "--epochs", 3, "-o", "tuned")
    assert outcome.code == 0
    assert (tmp_path / "tuned" / "checkpoint-1").is_dir()


def test_everything_in_the_file(
    job: Any, langcore: Any, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model, rows, folder and environment as for `trl sft`; flags win, and any field may be one."""
    monkeypatch.setenv("LANGCORE_TRIED", "before")
    lines = [
        f"model_name_or_path: {model_folder}",
        "dataset_name: task.jsonl",
        "output_dir: elsewhere",
        "core_mask: core",
        "general_dataset: general.jsonl",
        "general_data_ratio: 1e0",
        "max_steps: 5",
        "weight_decay: 0.5",
        "env:",
        "  LANGCORE_TRIED: after",
    ]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    flags = (
        "--max-steps",
        1,
        "--ratio-by",
        "tokens",
        "--weight-decay",
        0.25,
        "--save_strategy=steps",
        "--save_steps",
        1,
    )
    outcome = langcore("sft", "--config", "run.yaml", *flags, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    core = CoreMask.from_pretrained(tmp_path / "core")
    assert facts["core"] == {"weights": core.count(), "changed": 0}
    assert facts["mixture"]["general_tokens"] == pytest.approx(facts["mixture"]["task_tokens"], rel=0.2)
    assert os.environ["LANGCORE_TRIED"] == "after"
    args = torch.load(tmp_path / "elsewhere" / "training_args.bin", weights_only=False)
    assert (args.max_steps, args.weight_decay, args.general_data_by) == (1, 0.25, "tokens")
    assert (tmp_path / "elsewhere" / "checkpoint-1").is_dir()
    assert changed(model_folder, tmp_path / "elsewhere", core)[0] == 0


def test_the_console_says_that_the_core_held(job: Any, tmp_path: Path) -> None:
    """Number of core weights, and that none changed."""
    outcome = job("--core-mask", "core", "--max-steps", 1, "-o", "tuned")
    assert f"{CoreMask.from_pretrained(tmp_path / 'core').count():,} core weights, 0 changed" in outcome.out


def test_lora(job: Any, tmp_path: Path) -> None:
    """ModelConfig's adapter; it trains no core weight, so that a mask beside it is an error."""
    lora = ("--use_peft", "--lora_r", 2, "--lora_target_modules", "q_proj", "v_proj", "--max-steps", 1, "-o", "lora")
    assert job(*lora).code == 0
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == 2
    assert job(*lora, "--overwrite", "--core-mask", "core", "--adapter-rank", 2).code == 1


def test_rows_of_trl(job: Any, langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """A list of data sets, and rows to evaluate on."""
    lines = ["datasets:", "  - path: json", "    data_files: task.jsonl", "max_steps: 1", "eval_strategy: steps"]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    outcome = langcore(
        "sft", model_folder, "--config", "run.yaml", "-o", "tuned", "--eval-dataset", "task.jsonl", "--eval_steps", 1
    )
    assert outcome.code == 0, outcome.err
    assert "eval_loss" in outcome.out
    assert job("--config", "run.yaml", "-o", "other").code == 1  # two sources of rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--wieght_decay", "0.1"], "weight_decay"),
        (["--max_grad_norm", "high"], "max_grad_norm"),
        (["another-model"], "One model"),
        (["--num-processes", "2"], "--accelerate-config"),
        (["--data", "mini"], "--sweep"),
        (["--sweep", "0,many"], "--sweep"),
        (["--sweep", "0,1", "--accelerate-config", "multi_cpu"], "--sweep"),
    ],
)
def test_wrong_usage(job: Any, options: list[str], message: str, tmp_path: Path) -> None:
    """Exit code 2; unknown flags with the nearest ones."""
    outcome = job(*options, "-o", "tuned")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "tuned").exists()


def test_nowhere_to_write(job: Any) -> None:
    """No folder is made up."""
    outcome = job("--max-steps", 1)
    assert outcome.code == 2
    assert "--output" in outcome.err


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
        (["--config", "env.yaml"], "env must map"),
        (["--config", "typo.yaml"], "Did you mean learning_rate"),
        (["--eval_strategy", "steps", "--eval_steps", "1"], "--eval-dataset"),
        (["--accelerate-config", "nowhere"], "multi_cpu"),
        (["--accelerate-config", "fsdp2"], "data parallelism (DDP)"),
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
    (tmp_path / "env.yaml").write_text("env: 1\n")
    (tmp_path / "typo.yaml").write_text("leaning_rate: 1\n")
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


def test_an_existing_folder_is_not_trained_into(job: Any, tmp_path: Path) -> None:
    """A folder that is not empty is refused before the model is loaded."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "precious.txt").write_text("x")
    outcome = job("-o", "tuned")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err

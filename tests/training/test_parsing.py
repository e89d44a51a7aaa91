"""TRL's parser over all fields: file, flags, defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import ConfigurationError
from hf_langcore.training.parsing import CommandLineError, on_this_machine, parse_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Write a YAML file and return its path."""

    def write(*lines: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def test_flags_win_over_the_file_and_the_file_over_defaults(file: Any) -> None:
    """Dashes and underscores are the same; what nobody names is TRL's."""
    path = file("learning_rate: 1.0e-4", "max_steps: 7", "lora_r: 4", "dataset_name: task.jsonl")
    made = parse_run(["--max-steps", "9"], config=path, defaults={"max_steps": 1, "learning_rate": 1.0, "seed": 3})
    assert (made.training.max_steps, made.training.learning_rate, made.training.seed) == (9, 1e-4, 3)
    assert (made.model.lora_r, made.model.lora_alpha) == (4, 32)
    assert (made.script.dataset_name, made.script.dataset_test_split) == ("task.jsonl", "test")


def test_numbers_of_yaml(file: Any) -> None:
    """PyYAML reads 1e-4 as text; fields that are numbers get numbers, of the kind that they are."""
    lines = ["learning_rate: 1e-4", "max_steps: 1e0", "max_length: '64'", "neftune_noise_alpha: null", "seed: 3"]
    args = parse_run([], config=file(*lines, "general_data_ratio: 2e0", "run_name: 1e-4")).training
    assert (args.learning_rate, args.max_steps, args.max_length, args.seed) == (1e-4, 1, 64, 3)
    assert type(args.max_steps) is int
    assert (args.neftune_noise_alpha, args.general_data_ratio, args.run_name) == (None, 2.0, "1e-4")


def test_lists_and_mappings(file: Any) -> None:
    """Data sets with weights, and dictionaries, in the file or as JSON."""
    lines = ["datasets:", "  - path: a", "    fraction: 0.5", "  - path: b", "model_init_kwargs:", "  x: 1"]
    made = parse_run(["--general_dataset", "g", "h", "--lr_scheduler_kwargs", '{"y": 2}'], config=file(*lines))
    assert [(one.path, one.fraction) for one in made.mixture.datasets] == [("a", 0.5), ("b", None)]
    assert made.training.model_init_kwargs == {"x": 1}
    assert made.training.lr_scheduler_kwargs == {"y": 2}
    assert made.training.general_dataset == ["g", "h"]


@pytest.mark.parametrize("words", [["my-model", "--packing"], ["--weight_decay", "1", "my-model"]])
def test_the_model_is_what_belongs_to_no_flag(words: list[str], file: Any) -> None:
    """It wins over the file's."""
    assert parse_run(words, config=file("model_name_or_path: other")).model.model_name_or_path == "my-model"
    assert parse_run([], config=file("model_name_or_path: other")).model.model_name_or_path == "other"


def test_environment(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`env` is set before anything is made of the fields."""
    monkeypatch.setenv("LANGCORE_TRIED", "before")
    parse_run([], config=file("env:", "  LANGCORE_TRIED: 7"))
    assert os.environ["LANGCORE_TRIED"] == "7"


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 and checkpointing cost only time there; the same where a run is sent to the CPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert on_this_machine()["bf16"]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert on_this_machine() == {
        "use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wieght-decay", "1"], "Did you mean weight_decay"),
        (["--max", "1"], "no field 'max'"),  # no abbreviations
        (["--max_steps", "x"], "invalid int"),
        (["--max_steps"], "expected one argument"),
        (["a", "b"], "One model"),
    ],
)
def test_wrong_flags(words: list[str], message: str) -> None:
    """An exception, not an exit."""
    with pytest.raises(CommandLineError, match=message):
        parse_run(words)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("leaning_rate: 1", "Did you mean learning_rate"),
        ("learning_rate: fast", "must be a number, got 'fast'"),
        ("max_steps: 1.5", "must be a whole number, got 1.5"),
        ("env: 1", "env must map"),
        ("- 1", "must map field names"),
        ("a: [", "no readable YAML"),
        ("load_in_4bit: true\nload_in_8bit: true", "4 bit"),
        ("general_data_ratio: -1", "ratio"),
    ],
)
def test_wrong_files(line: str, message: str, file: Any) -> None:
    """Each with a message that names what is wrong."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_run([], config=file(line))
    assert not isinstance(caught.value, CommandLineError)

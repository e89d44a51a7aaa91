"""What arguments, YAML and the command line say about general data becomes sources with names."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from transformers import HfArgumentParser
from trl import TrlParser

from hf_langcore.errors import ConfigurationError, CorpusError, InputError
from hf_langcore.training import CoreRegionSFTConfig
from hf_langcore.training.general import general_rows, sources_of, task_rows

# TRL and PEFT still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")

ROWS = Dataset.from_list([{"text": "a"}])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("data/wiki.txt", ["general"]),
        (["data/wiki.txt"], ["general"]),
        (["data/wiki.txt", "b/chat.jsonl"], ["wiki", "chat"]),
        (["a/rows.jsonl", "b/rows.jsonl"], ["a/rows.jsonl", "b/rows.jsonl"]),
        (["old=a/rows.jsonl", "new=b/rows.jsonl"], ["old", "new"]),
        (["old=a/rows.jsonl"], ["old"]),
        (["me/set:de:train", "x.txt"], ["me/set:de:train".rpartition("/")[2], "x"]),
        ({"wiki": "a.txt", "chat": "b.txt"}, ["wiki", "chat"]),
        (ROWS, ["general"]),
        ([ROWS, ROWS], ["general 1", "general 2"]),
    ],
    ids=str,
)
def test_sources_are_named(given: Any, names: list[str]) -> None:
    """By the user, or after their files."""
    assert list(sources_of(given)) == names


def test_names_do_not_swallow_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose name has an equals sign, and an address with one, are no names."""
    monkeypatch.chdir(tmp_path)
    Path("a=b.txt").write_text("a")
    assert sources_of(["a=b.txt", "c=d.txt"]) == {"a=b": "a=b.txt", "c": "d.txt"}
    assert sources_of(["dir/x=y.txt"]) == {"general": "dir/x=y.txt"}


def test_equal_names_are_refused() -> None:
    """One would hide the other."""
    with pytest.raises(InputError, match="same name"):
        sources_of(["a=x.txt", "a=y.txt"])
    with pytest.raises(InputError, match="name of the task rows"):
        sources_of(["task=x.txt", "y.txt"])


@pytest.mark.parametrize("parser", [HfArgumentParser, TrlParser])
@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("general_dataset: a.txt", ["a.txt"]),
        ("general_dataset: [a.txt, b.txt]\ngeneral_data_weights: [3, 1]", ["a.txt", "b.txt"]),
        ("general_dataset: {wiki: a.txt, chat: b.txt}", ["wiki=a.txt", "chat=b.txt"]),
    ],
)
def test_yaml_says_one_source_or_several(tmp_path: Path, parser: Any, yaml: str, expected: list[str]) -> None:
    """With both parsers; the configuration survives a round trip through JSON."""
    path = tmp_path / "run.yaml"
    path.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\nbf16: false\n{yaml}\n")
    made = parser(CoreRegionSFTConfig)
    if parser is HfArgumentParser:
        (config,) = made.parse_yaml_file(str(path))
    else:
        (config,) = made.parse_args_and_config(["--config", str(path)])
    assert config.general_dataset == expected
    loaded = json.loads(config.to_json_string())
    assert (loaded["general_dataset"], loaded["general_data_weights"]) == (expected, config.general_data_weights)


def test_the_command_line_says_several(tmp_path: Path) -> None:
    """As a list."""
    line = ["--output_dir", str(tmp_path), "--use_cpu", "--bf16", "false", "--general_dataset", "x=a.txt", "b.txt"]
    (config,) = HfArgumentParser(CoreRegionSFTConfig).parse_args_into_dataclasses(
        [*line, "--general_data_weights", "2", "1"]
    )
    assert (config.general_dataset, config.general_data_weights) == (["x=a.txt", "b.txt"], [2.0, 1.0])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"general_dataset": ["a", "b"], "general_data_weights": [1.0]},
            ConfigurationError,
            "1 weights for 2 sources",
        ),
        ({"general_dataset": ["a=x", "a=y"]}, InputError, "same name"),
        ({"self_replay_rows": -1}, InputError, "rows must be a whole number of at least 0"),
        ({"self_replay_tokens": 0}, InputError, "max_new_tokens"),
        ({"self_replay_temperature": 0.0}, InputError, "temperature"),
        ({"self_replay_top_p": 2.0}, InputError, "top_p"),
    ],
    ids=str,
)
def test_the_configuration_refuses_what_cannot_be(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    """When it is made, not when training starts."""
    with pytest.raises(error, match=message):
        CoreRegionSFTConfig(str(tmp_path), use_cpu=True, bf16=False, **fields)


def test_files_are_read_and_arguments_override(tmp_path: Path) -> None:
    """The argument replaces the field; rows that the model has written come last."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    args = SimpleNamespace(general_dataset=["missing.txt"], general_data_ratio=1.0)
    rows = general_rows({"wiki": str(tmp_path / "a.txt")}, args, replayed={"self-replay": ROWS})
    assert {name: list(source["text"]) for name, source in rows.items()} == {
        "wiki": ["one", "two"],
        "self-replay": ["a"],
    }
    with pytest.raises(CorpusError, match=r"missing\.txt"):
        general_rows(None, args)
    with pytest.raises(InputError, match="self-replay"):
        general_rows({"self-replay": ROWS}, args, replayed={"self-replay": ROWS})
    args.general_data_ratio = 0
    assert general_rows(None, args) is None


def test_the_task_streams_with_any_of_the_sources() -> None:
    """SFTTrainer looks at the task rows to know whether anything streams."""
    stream = ROWS.to_iterable_dataset()
    assert task_rows(ROWS, {"a": ROWS}) is ROWS
    assert not isinstance(task_rows(ROWS, {"a": ROWS, "b": stream}), Dataset)
    with pytest.raises(CorpusError, match="train_dataset has no rows"):
        task_rows(ROWS.select([]), None)

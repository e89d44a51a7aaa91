"""Help, version, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

from hf_langcore import __version__
from hf_langcore.binding import BaseCheck
from hf_langcore.cli import find, loading, perturb
from hf_langcore.editing.edits import How
from hf_langcore.importance.compute import Method
from hf_langcore.masks.selection import Which

COMMANDS = ["find", "inspect", "perturb", "scale", "eval", "sft", "demo"]


def test_help_lists_every_command(langcore: Any) -> None:
    """`langcore --help` names all commands."""
    outcome = langcore("--help")
    assert outcome.code == 0
    assert all(command in outcome.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(langcore: Any, command: str) -> None:
    """`--help` of each command shows how it is called."""
    outcome = langcore(command, "--help")
    assert outcome.code == 0
    assert "Example" in outcome.out
    assert f"langcore {command}" in outcome.out


def test_version(langcore: Any) -> None:
    """`--version` prints the version and nothing else."""
    assert langcore("--version").out.strip() == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["find"],
        ["eval", "x", "--bogus"],
        ["eval", "x", "--max-tokens", "0"],
        ["eval", "x", "--batch-size", "many"],
        ["scale", "x", "p", "0", "--factor", "1,two"],
        ["scale", "x", "p", "0", "--languages", ","],
        ["find", "x", "-o", "y", "--method", "guess"],
        ["find", "x", "-o", "y", "--which", "middle"],
        ["find", "x", "-o", "y", "--languages", ","],
        ["find", "x", "-o", "y", "--dtype", "int8"],
        ["eval", "x", "--device", "foo"],
        ["eval", "x", "--device", "meta"],
        ["eval", "x", "--dtype", "double"],
        ["perturb", "x", "y", "--how", "break"],
        ["perturb", "x", "y", "--base-check", "maybe"],
        ["perturb", "x", "y", "--how", "scale"],
        ["perturb", "x", "y", "--factor", "2"],
        ["sft", "x", "--dataset", "y", "-o", "z", "--base-check", "maybe"],
        ["sft", "x", "--dataset", "y", "-o", "z", "--dtype", "double"],
    ],
)
def test_wrong_usage_is_exit_code_2(
    langcore: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wrong options and values are usage errors, known before any model is loaded or anything written."""
    monkeypatch.setattr(loading, "load_model", None)
    outcome = langcore(*arguments)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fraction", ["0", "1", "1.5", "-0.1", "nan"])
def test_fractions_lie_between_0_and_1(langcore: Any, fraction: str) -> None:
    """Wrong usage, in one sentence."""
    outcome = langcore("find", "x", "-o", "y", "--fraction", fraction)
    assert outcome.code == 2
    assert "between 0 and 1" in outcome.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(langcore: Any) -> None:
    """One message without a traceback."""
    outcome = langcore("eval", "x", "--device", "cuda")
    assert outcome.code == 2
    assert "'cuda' cannot be used here" in outcome.err


def test_choices_are_those_of_the_library() -> None:
    """The command line repeats them, so that --help needs no torch."""
    options = {command: get_type_hints(command) for command in (find.find, perturb.perturb)}
    assert options[find.find]["method"] == Method
    assert options[find.find]["which"] == Which
    assert options[perturb.perturb]["how"] == How
    assert options[perturb.perturb]["base_check"] == BaseCheck


@pytest.mark.parametrize("output", ["file/core", "/proc/core", "/dev/null/core", "n" * 300])
@pytest.mark.parametrize("command", ["find", "sft", "eval", "perturb", "scale", "demo"])
def test_impossible_outputs_are_known_before_the_work(
    langcore: Any, command: str, output: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One message that names the path, and no model is loaded for nothing."""
    monkeypatch.setattr(loading, "load_model", None)
    (tmp_path / "file").write_text("precious")
    arguments = {
        "find": ["x"],
        "sft": ["x", "--dataset", "y"],
        "eval": ["x"],
        "perturb": ["x", "y"],
        "scale": ["x", "y", "0"],
        "demo": [],
    }
    outcome = langcore(command, *arguments[command], "-o", output)
    assert outcome.code == 1
    assert outcome.err.startswith(f"langcore: Cannot write to '{output}'")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_reports_go_into_files(langcore: Any, tmp_path: Path) -> None:
    """A folder or a device is no place for a table."""
    for output in (tmp_path, "/dev/null"):
        outcome = langcore("eval", "x", "-o", output)
        assert outcome.code == 1
        assert "is no file" in outcome.err


def test_errors_of_the_system_are_one_message(langcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no bug, and has no traceback."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loading, "load_model", full)
    outcome = langcore("eval", "x", "--languages", "en")
    assert outcome.code == 1
    assert outcome.err == "langcore: [Errno 28] No space left on device\n"


def test_json_has_no_bare_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN and infinity are no JSON; they become strings."""
    values = {"a": float("nan"), "b": [float("inf"), (-float("inf"),)], "c": {"d": 1.5, "e": None, "f": True}}
    loading.show(values, as_json=True, rendered="")
    read = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert read == {"a": "nan", "b": ["inf", ["-inf"]], "c": {"d": 1.5, "e": None, "f": True}}


def test_expected_failures_are_one_message_and_exit_code_1(langcore: Any) -> None:
    """No traceback for a model that is not there."""
    outcome = langcore("eval", "no/such-model", "-q")
    assert outcome.code == 1
    assert outcome.err.startswith("langcore: Cannot load the model 'no/such-model'")
    assert "Traceback" not in outcome.err

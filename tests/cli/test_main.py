"""Help, version, exit codes."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore import __version__

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
    ],
)
def test_wrong_usage_is_exit_code_2(langcore: Any, arguments: list[str]) -> None:
    """Wrong options and values are usage errors."""
    assert langcore(*arguments).code == 2


def test_expected_failures_are_one_message_and_exit_code_1(langcore: Any) -> None:
    """No traceback for a model that is not there."""
    outcome = langcore("eval", "no/such-model", "-q")
    assert outcome.code == 1
    assert outcome.err.startswith("langcore: Cannot load the model 'no/such-model'")
    assert "Traceback" not in outcome.err

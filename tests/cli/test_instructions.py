"""`langcore instructions` and `langcore arithmetic`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.instructions.arithmetic import problem_of

ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
    {"instruction": "Name a sea."},
    {"inputs": "Is it late?", "targets": "No."},
]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def data(langcore: Any, tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_wrong_rows_are_shown_and_nothing_is_written(langcore: Any, data: Path, tmp_path: Path) -> None:
    """Unless they may be skipped."""
    outcome = langcore("instructions", data, "--output", "out.jsonl")
    assert outcome.code == 1
    assert "2 conversations (alpaca 1, flan 1), 1 wrong rows" in outcome.out
    assert "row 1 (line 2): there is no answer" in outcome.out
    assert "--skip-wrong" in outcome.err
    assert not (tmp_path / "out.jsonl").exists()
    outcome = langcore("instructions", data, "--output", "out.jsonl", "--skip-wrong", "--system", "Be kind.")
    assert outcome.code == 0, outcome.err
    assert "2 rows are in out.jsonl" in outcome.out
    rows = lines(tmp_path / "out.jsonl")
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [
        ["Be kind.", "Name a colour.", "Red."],
        ["Be kind.", "Is it late?", "No."],
    ]


def test_json_and_options(langcore: Any, data: Path, tmp_path: Path) -> None:
    """All of standard output is JSON; --format and --form decide."""
    outcome = langcore(
        "instructions", data, "--json", "--skip-wrong", "--form", "conversation_pair", "-o", "out.jsonl"
    )
    values = json.loads(outcome.out)
    assert (values["rows"], values["wrong_rows"], values["formats"]) == (2, 1, {"alpaca": 1, "flan": 1})
    assert values["problems"][0]["line"] == 2
    assert set(lines(tmp_path / "out.jsonl")[0]) == {"prompt", "completion"}
    values = json.loads(langcore("instructions", data, "--json", "--skip-wrong", "--format", "flan").out)
    assert [one["row"] for one in values["problems"]] == [0, 1]


def test_arithmetic_and_its_test_rows(langcore: Any, tmp_path: Path) -> None:
    """Two files without a common problem; the options reach the generator."""
    outcome = langcore(
        "arithmetic", "--count", 30, "--test", 10, "-o", "goat.jsonl", "--digits", "2-3", "--operations", "*/"
    )
    assert outcome.code == 0, outcome.err
    train, test = lines(tmp_path / "goat.jsonl"), lines(tmp_path / "goat-test.jsonl")
    assert (len(train), len(test)) == (30, 10)
    assert not {problem_of(row) for row in train} & {problem_of(row) for row in test}
    assert {row["operation"] for row in train + test} == {"*", "/"}
    assert min(min(problem_of(row)[::2]) for row in train + test) >= 10
    assert any("(" in row["completion"] for row in train)
    direct = json.loads(langcore("arithmetic", "--count", 30, "--digits", "3", "--direct", "--json", "--seed", 5).out)
    assert all(row["completion"] == f" {row['answer']}" for row in direct["rows"])
    again = json.loads(langcore("arithmetic", "--count", 30, "--digits", "3", "--direct", "--json", "--seed", 6).out)
    assert again != direct
    varied = langcore("arithmetic", "--count", 8, "--wording", "varied", "--negative", "--operations", "-").out
    assert all(json.loads(line)["completion"].count("=") == 1 for line in varied.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["instructions", "missing.jsonl"], 1, "missing.jsonl"),
        (["instructions", "empty.csv"], 1, "'empty.csv' has no rows"),
        (["instructions", "data.jsonl", "--format", "odd"], 2, "odd"),
        (["arithmetic", "--digits", "x"], 2, "--digits"),
        (["arithmetic", "--operations", "^"], 1, "operations"),
        (["arithmetic", "--digits", "1", "--count", "1000"], 1, "problems"),
    ],
)
def test_bad_input_is_named(langcore: Any, data: Path, arguments: list[str], code: int, message: str) -> None:
    """One clear message; 2 for wrong usage."""
    data.with_name("empty.csv").write_text("")
    outcome = langcore(*arguments)
    assert outcome.code == code
    assert message in outcome.err

"""`langcore audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

ROWS = [
    {"id": 0, "text": "The teacher saw two cats in front of the house."},
    {"id": 1, "text": "no no " + "the " * 12},
    {"id": 2, "text": "Die schÃ¶ne Welt &nbsp; ist groÃŸ."},
    {"id": 3, "text": "A dog ran home and nobody knew why."},
]


@pytest.fixture
def data(langcore: Any, tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_report_and_filtered_copy(langcore: Any, data: Path, tmp_path: Path) -> None:
    """The table is printed, the copy has the clean rows only, and the source stays."""
    before = data.read_bytes()
    outcome = langcore("audit", "data.jsonl", "-o", "out", "-q")
    assert outcome.code == 0, outcome.err
    assert "repeated_run" in outcome.out
    assert "2 of 4 rows flagged" in outcome.out
    assert "clean.jsonl and flagged.jsonl are in out" in outcome.out
    assert [json.loads(line)["id"] for line in (tmp_path / "out/clean.jsonl").read_text().splitlines()] == [0, 3]
    assert [json.loads(line)["id"] for line in (tmp_path / "out/flagged.jsonl").read_text().splitlines()] == [1, 2]
    assert json.loads((tmp_path / "out/report.json").read_text())["flagged_rows"] == 2
    assert (tmp_path / "out/report.md").read_text().startswith("# Noise audit")
    assert data.read_bytes() == before


def test_json_and_checks(langcore: Any, data: Path) -> None:
    """All of standard output is JSON; --checks and --skip choose."""
    values = json.loads(langcore("audit", data, "--json").out, parse_constant=pytest.fail)
    assert values["counts"]["encoding"] == {"mojibake": 1, "markup": 1}
    values = json.loads(
        langcore("audit", data, "--json", "--checks", "repetition, encoding", "--skip", "encoding").out
    )
    assert values["settings"]["checks"] == ["repetition"]
    assert values["flagged_rows"] == 1


def test_the_model_scores_the_rows(langcore: Any, data: Path, model_folder: str) -> None:
    """--model turns the check of perplexity on; its report says which model."""
    outcome = langcore("audit", data, "--model", model_folder, "--json", "-q", "--languages", "en,de")
    values = json.loads(outcome.out)
    assert values["perplexity"]["rows"] == 4
    assert values["settings"]["model"] == model_folder
    assert values["settings"]["expected_languages"] == ["de", "en"]


def test_a_folder_that_is_not_empty_is_kept(langcore: Any, data: Path, tmp_path: Path) -> None:
    """Unless --overwrite is given."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clean.jsonl").write_text("mine")
    outcome = langcore("audit", data, "-o", "out", "-q")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    assert (tmp_path / "out" / "clean.jsonl").read_text() == "mine"
    assert langcore("audit", data, "-o", "out", "-q", "--overwrite").code == 0
    assert (tmp_path / "out" / "clean.jsonl").read_text() != "mine"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["missing.jsonl"], 1, "missing.jsonl"),
        (["data.jsonl", "--checks", "spelling"], 2, "spelling"),
        (["data.jsonl", "--checks", "language", "--skip", "language"], 2, "no check is left"),
        (["data.jsonl", "--checks", "perplexity"], 1, "model"),
        (["data.jsonl", "--languages", "xx"], 1, "xx"),
        (["data.jsonl", "--tokenizer", "nowhere"], 1, "nowhere"),
        (["data.jsonl", "--similarity", "2"], 1, "similarity"),
    ],
)
def test_bad_input_is_named(langcore: Any, data: Path, options: list[str], code: int, message: str) -> None:
    """One clear message; 2 for wrong usage."""
    outcome = langcore("audit", *options)
    assert outcome.code == code
    assert message in outcome.err

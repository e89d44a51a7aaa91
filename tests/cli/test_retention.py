"""`langcore retention`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

METHODS = """
plain:
  learning_rate: [1e-4, 1e-2]
a prompt, 2 tokens:
  learning_rate: 0.1
  adapter: {peft_type: PROMPT_TUNING, num_virtual_tokens: 2}
left out:
  learning_rate: 0.1
"""


def test_a_table_a_record_and_a_picture(
    langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command, which goes on where it was; the table fits 80 columns."""
    (tmp_path / "methods.yaml").write_text(METHODS, encoding="utf-8")
    options = ["--data", texts_folder, "--methods", "methods.yaml", "--only", "plain; a prompt, 2 tokens"]
    options += ["--seeds", "1,2", "--rows", 8, "--epochs", 1, "--largest", 11, "--test-rows", 6, "--block-size", 16]
    options += ["--core-languages", "en", "--no-bf16", "--output", "out"]
    ran = langcore("retention", model_folder, *options, "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    assert facts["chosen"].keys() == {"plain", "a prompt, 2 tokens"}
    assert facts["methods"]["plain"]["learning_rate"] == [1e-4, 1e-2]
    assert facts["chosen"]["a prompt, 2 tokens"]["trained"] == 64
    assert [run["seed"] for run in facts["runs"]] == [1, 1, 1, 2, 2]
    assert len(ran.err.split("perplexities x")) == 6
    assert json.loads((tmp_path / "out" / "retention.json").read_text(encoding="utf-8"))["seeds"] == [1, 2]
    assert (tmp_path / "out" / "retention.png").stat().st_size > 1000

    monkeypatch.setenv("COLUMNS", "80")
    again = langcore("retention", model_folder, *options)
    assert again.code == 0, again.err
    assert "perplexities x" not in again.err, "nothing is trained again"
    assert max(map(len, again.out.splitlines())) <= 80
    assert "a prompt, 2" in again.out
    assert "±" in again.out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--seeds", "a"], 2, "numbers separated by commas"),
        (["--methods", "missing.yaml"], 1, "no readable YAML"),
        (["--only", "LORAX"], 1, "no method 'LORAX'"),
        (["--task", "sums"], 1, "got 'sums'"),
        (["--rows", "9999"], 1, "Allow larger numbers"),
    ],
)
def test_wrong_use_is_said(
    langcore: Any, model_folder: str, texts_folder: str, options: list[str], code: int, words: str
) -> None:
    """Before anything is trained."""
    ran = langcore("retention", model_folder, "--data", texts_folder, "--output", "out", *options)
    assert ran.code == code
    assert words in " ".join(ran.err.split())

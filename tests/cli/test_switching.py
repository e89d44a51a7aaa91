"""`langcore switching`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.switching import Criteria, code_switching_rate


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "p.jsonl"
    lines = [{"language": "en", "prompt": "The man saw"}, {"language": "zh", "prompt": "老师"}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_the_figures_are_those_of_the_python_call(
    langcore: Any, model_folder: str, prompts: Path, tmp_path: Path
) -> None:
    options = ("--prompts", prompts, "--max-new-tokens", 20, "--seed", 3, "--samples", 2, "--ratio", 4, "-q")
    outcome = langcore("switching", model_folder, *options, "--json", "-o", "r.md")
    assert outcome.code == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    expected = code_switching_rate(
        model,
        tokenizer,
        {"en": ["The man saw"], "zh": ["老师"]},
        max_new_tokens=20,
        seed=3,
        samples=2,
        criteria=Criteria(ratio=4.0),
        progress=False,
    )
    found = json.loads(outcome.out)
    assert found["generations"] == expected.to_dict()["generations"]
    assert found["settings"]["criteria"]["ratio"] == 4.0
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == expected.to_markdown()


def test_checkpoints_and_folders_of_texts(langcore: Any, model_folder: str, texts_folder: str) -> None:
    """The model itself comes first; prompts are the first words of the texts."""
    options = (
        "--prompts",
        texts_folder,
        "--languages",
        "en,zh",
        "--words",
        2,
        "--max-prompts",
        1,
        "--max-new-tokens",
        8,
    )
    outcome = langcore("switching", model_folder, *options, "--checkpoints", model_folder + "/.", "--json", "-q")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert list(found) == [model_folder, model_folder + "/."]
    first, second = ([one["text"] for one in report["generations"]] for report in found.values())
    assert first == second
    assert [len(one["prompt"].split()) for one in found[model_folder]["generations"]] == [2, 1]


def test_what_is_wrong_is_said(langcore: Any, model_folder: str, prompts: Path) -> None:
    assert langcore("switching", model_folder).code == 2
    missing = langcore("switching", model_folder, "--prompts", prompts, "--languages", "fr", "-q")
    assert missing.code == 1
    assert "no prompts in ['fr']" in missing.err
    ratio = langcore("switching", model_folder, "--prompts", prompts, "--ratio", 0.5, "-q")
    assert "ratio must be a finite number" in ratio.err

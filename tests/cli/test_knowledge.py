"""`langcore knowledge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.knowledge import evaluate_knowledge

SET = {
    "format_version": 1,
    "language": "en",
    "facts": [{"id": "a", "kind": "k", "prompt": "it is", "right": "hot", "wrong": ["red", "cold"]}],
    "minimal_pairs": [{"phenomenon": "p", "grammatical": "he sees", "ungrammatical": "he see"}],
}


def test_the_figures_are_those_of_the_python_call(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """JSON, a file by its ending, and the table for people; own files in place of the built-in ones."""
    (tmp_path / "own.json").write_text(json.dumps(SET), encoding="utf-8")
    outcome = langcore("knowledge", model_folder, "--data", "own.json", "--json", "-q", "-o", "r.md")
    assert outcome.code == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    expected = evaluate_knowledge(model, tokenizer, data="own.json", progress=False)
    found = json.loads(outcome.out)
    assert [one["log_likelihoods"] for one in found["facts"]] == [list(one.log_likelihoods) for one in expected.facts]
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == expected.to_markdown()
    assert "Facts and minimal pairs" in langcore("knowledge", model_folder, "--data", "own.json", "-q").out


def test_what_is_wrong_is_said(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    assert "no facts or minimal pairs in ['xx']" in langcore("knowledge", model_folder, "--languages", "xx").err
    (tmp_path / "own.json").write_text(json.dumps({**SET, "facts": [{}]}), encoding="utf-8")
    outcome = langcore("knowledge", model_folder, "--data", "own.json")
    assert outcome.code == 1
    assert "own.json is no file of facts and minimal pairs: facts[0] lacks" in outcome.err

"""`langcore replay`: rows in a file, resumable, refused where they would be lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Langcore = Callable[..., Any]
FEW = ["--rows", 6, "--max-new-tokens", 8, "--device", "cpu", "--quiet"]


def test_rows_of_each_language_lie_in_the_file(langcore: Langcore, model_folder: str, texts_folder: str) -> None:
    """JSON lines that `langcore sft --general` reads; the state is gone when they are written."""
    done = langcore("replay", model_folder, "--data", texts_folder, "--languages", "en,zh", "-o", "r.jsonl", *FEW)
    assert done.code == 0, done.err
    assert "6 rows in 2 languages, 6 texts generated now" in done.out
    rows = [json.loads(line) for line in Path("r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["language"] for row in rows] == ["en"] * 3 + ["zh"] * 3
    assert all(row["text"] and row["source"] == "seeded" for row in rows)
    assert not Path("r.jsonl.partial").exists()


def test_a_cache_serves_the_next_call(langcore: Langcore, model_folder: str) -> None:
    """Facts as JSON; the second call generates nothing and writes the same."""
    call = ["replay", model_folder, "--cache-dir", "kept", "--json", *FEW]
    first = json.loads(langcore(*call, "-o", "a.jsonl").out)
    second = json.loads(langcore(*call, "-o", "b.jsonl").out)
    assert (first["generated"], second["generated"]) == (6, 0)
    assert first["dropped"] == {"unconditional": {}}
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()


def test_an_interrupted_run_goes_on(langcore: Langcore, model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches that were finished lie beside the output until it is there."""
    from transformers import LlamaForCausalLM

    generate, calls = LlamaForCausalLM.generate, []

    def die(self: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no power")
        return generate(self, **options)

    call = ["replay", model_folder, "-o", "r.jsonl", "--batch-size", 2, "--json", *FEW]
    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "generate", die)
        assert langcore(*call).code == 1
    assert not Path("r.jsonl").exists()
    assert Path("r.jsonl.partial").is_dir()
    assert json.loads(langcore(*call).out)["generated"] == 4


def test_a_file_is_not_replaced_unasked(langcore: Langcore, model_folder: str) -> None:
    """It may have cost hours."""
    Path("r.jsonl").write_text("mine")
    call = ["replay", model_folder, "-o", "r.jsonl", *FEW]
    refused = langcore(*call)
    assert (refused.code, "--overwrite" in refused.err) == (1, True)
    assert Path("r.jsonl").read_text() == "mine"
    assert langcore(*call, "--overwrite").code == 0
    assert Path("r.jsonl").read_text() != "mine"


def test_languages_need_texts(langcore: Langcore, model_folder: str) -> None:
    """They are those of the folder."""
    wrong = langcore("replay", model_folder, "-o", "r.jsonl", "--languages", "en", *FEW)
    assert (wrong.code, "--data" in wrong.err) == (2, True)

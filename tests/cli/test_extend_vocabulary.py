"""`langcore extend-vocabulary`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

OPTIONS = ("--language", "es", "--num-tokens", 12, "-o", "out")


def test_model_and_tokenizer_are_saved(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """They load, the text is shorter, and JSON is all that --json prints."""
    outcome = langcore("extend-vocabulary", model_folder, "--data", texts_folder, *OPTIONS, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert facts["language"] == "es"
    assert len(facts["tokens"]) == 12
    assert facts["tokens_per_byte"]["es"][1] < facts["tokens_per_byte"]["es"][0]
    assert set(facts["tokens_per_byte"]) == {"en", "es", "zh"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(model.get_input_embeddings().weight) == facts["rows_after"] == facts["rows_before"] + 12
    text = (Path(texts_folder) / "es.txt").read_text(encoding="utf-8")
    old = AutoTokenizer.from_pretrained(model_folder)
    assert len(tokenizer(text)["input_ids"]) < len(old(text)["input_ids"])
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_what_people_see(langcore: Any, model_folder: str, texts_folder: str) -> None:
    """A table of lengths, also of chosen languages; and a folder is not replaced unasked."""
    outcome = langcore("extend-vocabulary", model_folder, "--data", texts_folder, *OPTIONS, "--languages", "en")
    assert outcome.code == 0, outcome.err
    assert "12 new tokens" in outcome.out
    assert "zh" not in outcome.out
    assert "Nothing was trained" in outcome.out
    again = langcore("extend-vocabulary", model_folder, "--data", texts_folder, *OPTIONS)
    assert again.code == 1
    assert "--overwrite" in again.err


def test_bad_input_is_named(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """One clear message, and nothing is written."""
    missing = langcore("extend-vocabulary", model_folder, "--data", texts_folder, "--language", "fr", "-o", "out")
    assert missing.code == 1
    assert "'fr'" in missing.err
    many = langcore(
        "extend-vocabulary",
        model_folder,
        "--data",
        texts_folder,
        "--language",
        "es",
        "--num-tokens",
        99_999,
        "-o",
        "out",
    )
    assert many.code == 1
    assert "fewer" in many.err
    assert not (tmp_path / "out").exists()

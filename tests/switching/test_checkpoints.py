"""Rates over checkpoints, on disk and in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.switching import code_switching_over_checkpoints, code_switching_rate

PROMPTS = {"en": ["The man"], "de": ["Der Mann"]}
ENGLISH = "The government decided yesterday that taxes on petrol will be lowered by five per cent next year."
GERMAN = "Die Regierung hat gestern beschlossen, die Steuern auf Benzin im nächsten Jahr zu senken."


def test_a_curve_of_models(parrot: Any, tokenizer: Any) -> None:
    curve = code_switching_over_checkpoints(
        {"0": parrot(GERMAN), "100": parrot(ENGLISH)}, PROMPTS, tokenizer=tokenizer, max_new_tokens=90, progress=False
    )
    assert {name: rate.value for name, rate in curve.rates("de").items()} == {"0": 0.0, "100": 1.0}
    assert {name: rate.value for name, rate in curve.rates("en").items()} == {"0": 1.0, "100": 0.0}
    assert {rate.value for rate in curve.rates().values()} == {0.5}
    assert curve.to_markdown().splitlines()[0] == "| prompts in | 0 | 100 |"
    assert curve.__rich__().row_count == 3


def test_folders_are_loaded_and_named_by_their_last_part(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "checkpoint-1", tmp_path / "a" / "checkpoint-2", tmp_path / "b" / "checkpoint-1"]
    for folder in folders:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    curve = code_switching_over_checkpoints(folders, PROMPTS, max_new_tokens=8, progress=False)
    assert list(curve.reports) == [str(folders[0]), "checkpoint-2", str(folders[2])]
    direct = code_switching_rate(model, tokenizer, PROMPTS, max_new_tokens=8, progress=False)
    texts = [[one.text for one in report.generations] for report in (*curve.reports.values(), direct)]
    assert texts == [texts[0]] * 4
    curve.to_json(tmp_path / "c.json")
    assert list(json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))) == list(curve.reports)


def test_what_cannot_be_loaded_is_named(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot load the checkpoint .*none"):
        code_switching_over_checkpoints([tmp_path / "none"], PROMPTS, progress=False)
    with pytest.raises(InputError, match="pass tokenizer="):
        code_switching_over_checkpoints({"a": model}, PROMPTS, progress=False)
    for wrong in ([], {}, "folder"):
        with pytest.raises(InputError, match="Expected checkpoints"):
            code_switching_over_checkpoints(wrong, PROMPTS, progress=False)
    with pytest.raises(InputError, match="named twice"):
        code_switching_over_checkpoints(["a", "a"], PROMPTS, progress=False)

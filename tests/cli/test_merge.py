"""`langcore merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask


@pytest.fixture
def tuned(langcore: Any, model_folder: str, tmp_path: Path) -> str:
    """A model whose every weight has moved, and a core of its base."""
    langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q")
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "tuned")
    return "tuned"


def test_the_core_goes_back(langcore: Any, model_folder: str, tuned: str, tmp_path: Path) -> None:
    """The result loads with its tokenizer, and JSON is all that --json prints."""
    options = ("--core-from", model_folder, "--complement-from", tuned, "--core-mask", "core", "-o", "out")
    outcome = langcore("merge", *options, "--json", "--max-shard-size", "20KB")
    assert outcome.code == 0, outcome.err
    mask = CoreMask.from_pretrained(tmp_path / "core")
    facts = json.loads(outcome.out)
    assert (facts["core_weights"], facts["core_mask"]) == (mask.count(), mask.digest())
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    folders = (tmp_path / "out", model_folder, tmp_path / "tuned")
    made, base, other = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    for name in mask:
        assert torch.equal(made[name], torch.where(mask[name], base[name], other[name]))
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the cat")
    again = langcore("merge", *options)
    assert again.code == 1
    assert "--overwrite" in again.err
    assert langcore("merge", *options, "--overwrite", "-q").out.startswith("saved in out")


def test_bad_input_is_named(langcore: Any, model_folder: str, tuned: str, tmp_path: Path) -> None:
    """One clear message, and nothing is written."""
    options = ("--complement-from", tuned, "--core-mask", "core", "-o", "out")
    missing = langcore("merge", "--core-from", "nowhere", *options)
    assert missing.code == 1
    assert "'nowhere'" in missing.err
    other = langcore("merge", "--core-from", tuned, *options)
    assert other.code == 1
    assert "neither checkpoint" in other.err
    assert not (tmp_path / "out").exists()
    assert langcore("merge", "--core-from", tuned, *options, "--base-check", "off").code == 0

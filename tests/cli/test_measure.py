"""`langcore eval`, `perturb` and `scale`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask, evaluate_perplexity, perturb
from hf_langcore.data import corpora_from_folder
from hf_langcore.evaluation import PerplexityReport


@pytest.fixture
def core(langcore: Any, model_folder: str, tmp_path: Path) -> Path:
    assert langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q").code == 0
    return tmp_path / "core"


def test_eval_gives_the_figures_of_the_python_call(
    langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path
) -> None:
    """The table, JSON on standard output, and files by their ending."""
    outcome = langcore("eval", model_folder, "--data", texts_folder, "-q", "--json", "-o", "r.json")
    assert outcome.code == 0
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    expected = evaluate_perplexity(model, tokenizer, corpora_from_folder(texts_folder), progress=False)
    assert json.loads(outcome.out)["conditions"] == expected.to_dict()["conditions"]
    assert PerplexityReport.from_json(tmp_path / "r.json").conditions == expected.conditions
    table = langcore("eval", model_folder, "--data", texts_folder, "-q", "-o", "r.md")
    assert "mean (geometric)" in table.out
    assert (tmp_path / "r.md").read_text(encoding="utf-8").startswith("| language | tokens | model |")


def test_perturb_restores_and_reports(langcore: Any, model_folder: str, texts_folder: str, core: Path) -> None:
    """Each region in its own column; the figures are those of the Python calls."""
    options = ("--data", texts_folder, "-q", "--json")
    outcome = langcore("perturb", model_folder, core, "--region", "core,complement,random", *options)
    conditions = json.loads(outcome.out)["conditions"]
    assert list(conditions) == ["base", "core", "complement", "random"]
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    with perturb(model, CoreMask.from_pretrained(core)):
        report = evaluate_perplexity(model, tokenizer, corpora_from_folder(texts_folder), progress=False)
    assert conditions["core"]["en"]["nll"] == report.nll["en"]


def test_perturb_names_what_is_wrong(langcore: Any, model_folder: str, core: Path, tmp_path: Path) -> None:
    """Unknown regions are wrong usage; a missing mask is a failure with a message."""
    assert langcore("perturb", model_folder, core, "--region", "nucleus", "-q").code == 2
    missing = langcore("perturb", model_folder, tmp_path / "none", "-q")
    assert missing.code == 1
    assert "no core mask" in missing.err


def test_perturb_by_a_factor(langcore: Any, model_folder: str, core: Path) -> None:
    """--how scale takes its --factor; by 1 nothing changes."""
    options = ("--region", "core, random", "--languages", "en", "--max-tokens", 20, "-q", "--json")
    outcome = langcore("perturb", model_folder, core, "--how", "scale", "--factor", 1, *options)
    conditions = json.loads(outcome.out)["conditions"]
    assert conditions["core"] == conditions["random"] == conditions["base"]


def test_scale(langcore: Any, model_folder: str) -> None:
    """One column per factor, and generations on request."""
    name = "model.layers.1.input_layernorm"
    options = ("--languages", "en", "--max-tokens", 40, "-q")
    outcome = langcore(
        "scale", model_folder, name, 3, "--factor", "1,8", "--prompt", "The", "--max-new-tokens", 2, *options
    )
    assert outcome.code == 0
    assert all(part in outcome.out for part in ("base", "x1", "x8", "Generations"))
    values = json.loads(langcore("scale", model_folder, name, 3, "--factor", "1", "--json", *options).out)
    assert values["conditions"]["x1"] == values["conditions"]["base"]
    wrong = langcore("scale", model_folder, name, 99, *options)
    assert wrong.code == 1
    assert "0 to 31" in wrong.err

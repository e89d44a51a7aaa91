"""What a report says about the model at the moment of measuring."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PromptTuningConfig, get_peft_model

import hf_langcore
from hf_langcore import PerplexityReport, evaluate_perplexity, perturb, scale_dimension
from hf_langcore.evaluation import prepare_scoring, score
from hf_langcore.masks import CoreMask

NAME = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def core_mask(llama: Any) -> CoreMask:
    bits = torch.zeros_like(llama.get_parameter(NAME), dtype=torch.bool)
    bits[3] = True
    return CoreMask({NAME: bits})


def edits(model: Any, tokenizer: Any, texts: Any) -> Any:
    return evaluate_perplexity(model, tokenizer, texts, progress=False).settings["edits"]


def test_untouched(llama: Any, tokenizer: Any, texts: Any) -> None:
    """No edits and no adapters are noted as such; versions and the moment are there."""
    llama.config._name_or_path = "them/base"
    settings = evaluate_perplexity(llama, tokenizer, texts, progress=False, seed=5).settings
    assert (settings["model"], settings["edits"], settings["adapters"], settings["seed"]) == ("them/base", [], [], 5)
    assert settings["versions"] == {
        "hf_langcore": hf_langcore.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    then = datetime.strptime(settings["date"], "%Y-%m-%dT%H:%M:%S%z")
    assert abs((datetime.now(timezone.utc) - then).total_seconds()) < 3600


def test_open_edits(llama: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> None:
    """Each open edit is noted, in order, until it is restored."""
    handle = perturb(llama, core_mask, how="scale", factor=2)
    with scale_dimension(llama, "model.norm", [1, 2], factor=3):
        both = edits(llama, tokenizer, texts)
        assert [one.split(",")[0] for one in both] == ["scale by 2: given", "model.norm.weight [1"]
        assert both[1].endswith("times 3, 2 weights")
        assert edits(torch.nn.DataParallel(llama), tokenizer, texts) == both
    assert edits(llama, tokenizer, texts) == both[:1]
    handle.restore()
    assert edits(llama, tokenizer, texts) == []


def test_edits_that_stay(llama: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> None:
    """What is kept for good, and the copy of an edited model, are not as they were loaded."""
    handle = perturb(llama, core_mask)
    copied = copy.deepcopy(llama)
    handle.restore()
    assert edits(llama, tokenizer, texts) == []
    assert len(edits(copied, tokenizer, texts)) == 1
    perturb(llama, core_mask).keep()
    assert len(edits(llama, tokenizer, texts)) == 1


def test_adapters(llama: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> None:
    """Active and merged adapters are noted, also while an edit merges them; switched off ones are not."""
    model = get_peft_model(
        llama, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    )

    def adapters() -> Any:
        return evaluate_perplexity(model, tokenizer, texts, progress=False).settings["adapters"]

    assert adapters() == ["default (LORA)"]
    with perturb(model, core_mask):
        assert adapters() == ["default (LORA)"]
        assert len(edits(model, tokenizer, texts)) == 1
    with model.disable_adapter():
        assert adapters() == []
    model.merge_adapter()
    assert adapters() == ["default (LORA)"]
    bare = evaluate_perplexity(model.base_model.model, tokenizer, texts, progress=False).settings["adapters"]
    assert bare == ["default (LORA)"]


def test_prompts(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Prompt tuning has no layers in the model, and is noted all the same."""
    model = get_peft_model(llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    report = evaluate_perplexity(model, tokenizer, texts, block_size=48, progress=False)
    assert report.settings["adapters"] == ["default (PROMPT_TUNING)"]
    with model.disable_adapter():
        off = evaluate_perplexity(model, tokenizer, texts, block_size=48, progress=False)
    assert off.settings["adapters"] == []


def test_tables_keep_what_each_condition_was(llama: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> None:
    """Beside each other, alone again, and through JSON."""
    task = prepare_scoring(llama, tokenizer, texts)
    base = score(llama, task, progress=False)
    with perturb(llama, core_mask):
        zeroed = score(llama, task, progress=False)
    table = PerplexityReport.compare({"base": base, "top": zeroed})
    again = PerplexityReport.from_json(table.to_json())
    for report in (table, again, PerplexityReport.compare({"base": again["base"], "top": again["top"]})):
        assert report.settings_of("base")["edits"] == report["base"].settings["edits"] == []
        assert len(report.settings_of("top")["edits"]) == len(report["top"].settings["edits"]) == 1
        assert report.settings_of("top")["text_sha256"] == task.settings["text_sha256"]
    assert PerplexityReport.compare({"base": table["top"]}).settings["edits"] == zeroed.settings["edits"]


def test_bytes_of_scored_text(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Whole documents are counted; where a tokenizer without offsets is cut, nobody guesses."""
    report = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    sizes = {language: sum(len(text.encode()) for text in documents) for language, documents in texts.items()}
    assert {language: one.bytes for language, one in report.only().items()} == sizes
    assert report.only()["en"].bits_per_byte == pytest.approx(report.nll["en"] * 1.4426950408889634), (
        "a token is a byte"
    )
    first = len(texts["en"][0].encode())
    cut = evaluate_perplexity(llama, tokenizer, {"en": texts["en"]}, max_tokens=first, progress=False)
    assert cut.only()["en"].bytes == first
    cut = evaluate_perplexity(llama, tokenizer, {"en": texts["en"]}, max_tokens=first + 1, progress=False)
    assert cut.only()["en"].bytes is None


def test_hub_sources(llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets that are named by repository, config and split are noted; files of this machine are not."""
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["some text", "some more"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: rows)
    report = evaluate_perplexity(llama, tokenizer, {"en": "me/texts:eng:test", "de": ["mehr"]}, progress=False)
    assert report.settings["datasets"] == {"en": {"dataset": "me/texts", "config": "eng", "split": "test"}}

"""Facts and minimal pairs put to models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.editing import set_dimension
from hf_langcore.knowledge import Fact, KnowledgeSet, MinimalPair, evaluate_knowledge, load_knowledge
from hf_langcore.knowledge.scoring import score_set

SETS = {
    "en": KnowledgeSet(
        "en",
        " ",
        (Fact("a", "k", "it is", "hot", ("cold", "red")), Fact("b", "k", "we are", "red", ("hot", "cold"))),
        (MinimalPair("p", "he sees", "he see"),),
    ),
    "zh": KnowledgeSet("zh", "", (Fact("a", "k", "它", "热", ("冷", "红")),), ()),
}


def test_a_report_is_made_of_what_is_scored(llama: Any, tokenizer: Any) -> None:
    report = evaluate_knowledge(llama, tokenizer, data=SETS, resamples=50, seed=4, progress=False)
    assert report.languages == ["en", "zh"]
    assert [(one.language, one.group, one.name, one.texts) for one in report.facts] == [
        ("en", "k", "a", ("hot", "cold", "red")),
        ("en", "k", "b", ("red", "hot", "cold")),
        ("zh", "k", "a", ("热", "冷", "红")),
    ]
    facts, pairs = score_set(llama, tokenizer, SETS["en"])
    assert [one.log_likelihoods for one in report.facts[:2]] == facts
    assert [one.log_likelihoods for one in report.pairs] == pairs
    assert report.settings["resamples"] == 50
    assert report.settings["dtype"] == "float32"
    only = evaluate_knowledge(llama, tokenizer, data=SETS, languages=["zh"], progress=False)
    assert only.languages == ["zh"]
    assert only.settings["items_sha256"] != report.settings["items_sha256"]


def test_a_model_that_tells_nothing_apart_is_at_chance(llama: Any, tokenizer: Any) -> None:
    """Equal logits for all tokens: completions of equal length tie."""
    with torch.no_grad():
        llama.lm_head.weight.zero_()
    same = {"en": KnowledgeSet("en", " ", (Fact("a", "k", "it is", "hot", ("red", "wet", "dry")),), ())}
    report = evaluate_knowledge(llama, tokenizer, data=same, progress=False)
    assert report.accuracy("facts").value == 0.25
    assert report.margin("facts").value == pytest.approx(0.0, abs=1e-5)


def test_open_edits_count_and_training_mode_comes_back(llama: Any, tokenizer: Any) -> None:
    llama.train()
    before = evaluate_knowledge(llama, tokenizer, data=SETS, progress=False)
    with set_dimension(llama, "model.layers.0.input_layernorm", 3, value=9.0):
        after = evaluate_knowledge(llama, tokenizer, data=SETS, progress=False)
    assert llama.training
    assert after.settings["edits"]
    assert after.facts[0].log_likelihoods != before.facts[0].log_likelihoods


@pytest.mark.real
def test_the_real_model_prefers_english_word_order(real_model_path: Path) -> None:
    """It knows no facts: accuracy is near chance; yet of pronouns and word order it knows something."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(real_model_path).eval()
    english = load_knowledge(languages=["en"])["en"]
    chosen = tuple(pair for pair in english.pairs if pair.phenomenon in {"pronoun case", "word order"})
    tokenizer = AutoTokenizer.from_pretrained(real_model_path)
    sets = {"en": KnowledgeSet("en", " ", english.facts[:8], chosen)}
    report = evaluate_knowledge(model, tokenizer, data=sets, progress=False)
    assert report.accuracy("pairs").value >= 0.8
    lift = report.lift()
    assert lift is not None
    assert abs(lift.value) < 2

"""T5 and BART from end to end: scored, searched, edited and restored, frozen, saved and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_langcore.auto import auto_class_for, auto_class_of
from hf_langcore.editing import perturb, scale_dimension
from hf_langcore.errors import CorpusError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.heads import attention_heads
from hf_langcore.importance import compute_core_mask, compute_importance
from hf_langcore.roles import roles_of
from hf_langcore.scanning import find_critical_dimensions
from hf_langcore.training import CoreFreezeCallback
from tests.conftest import bits_of, build_llama, build_t5, same_bits, snapshot

SOURCES = ["translate: a cat", "translate: two old trees", "translate: b", "translate: the moon", "translate: home"]
TARGETS = ["eine Katze", "zwei alte Bäume", "b", "der Mond", "heim"]
PAIRS = {"de": list(zip(SOURCES, TARGETS, strict=True))}

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")


def plain_losses(model: Any, tokenizer: Any) -> tuple[float, int]:
    """What transformers itself says of each pair: labels in, mean loss out."""
    total, count = 0.0, 0
    for source, target in PAIRS["de"]:
        inputs = tokenizer(source, return_tensors="pt")
        labels = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += float(model(**inputs, labels=labels).loss) * labels.numel()
        count += labels.numel()
    return total, count


def test_scored_as_transformers_scores(pair_model: Any, words: Any) -> None:
    """Token-weighted over the targets, end tokens included, whatever the batches."""
    total, count = plain_losses(pair_model, words)
    for size in (1, 3, "auto"):
        report = evaluate_perplexity(pair_model, words, PAIRS, batch_size=size, progress=False)
        assert report.tokens["de"] == count
        assert report.nll["de"] == pytest.approx(total / count, rel=1e-5)
    assert report.conditions["model"]["de"].bytes == sum(len(target.encode()) for target in TARGETS)
    assert "decoder start" in report.settings["start_token"]
    with pytest.raises(CorpusError, match="need pairs"):
        evaluate_perplexity(pair_model, words, {"de": TARGETS}, progress=False)


def test_importance_is_gradient_times_weight(pair_model: Any, words: Any) -> None:
    """One batch: the gradient of the model's own loss times the weight."""
    scores = compute_importance(pair_model, words, PAIRS, batch_size=8, progress=False)
    padded = words(SOURCES, padding=True, return_tensors="pt")
    labels = words(text_target=TARGETS, padding=True, return_tensors="pt")["input_ids"]
    pair_model(**padded, labels=labels.masked_fill(labels == 0, -100)).loss.backward()
    parameters = dict(pair_model.named_parameters())
    assert {"encoder", "decoder"} <= {part for name in scores for part in name.split(".")[:2]}
    for name, values in scores.items():
        wanted = (parameters[name].grad * parameters[name]).detach().abs()
        assert torch.allclose(values, wanted, atol=1e-6, rtol=1e-4), name


@pytest.mark.parametrize("method", ["taylor_abs", "fisher", "wanda"])
def test_parts_of_a_batch_add_up(pair_model: Any, words: Any, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are split for memory give the same scores; fillings count in none."""
    pair_model.double()
    whole = compute_importance(pair_model, words, PAIRS, method=method, batch_size=5, progress=False)
    monkeypatch.setattr("hf_langcore.importance.gradients._LOGIT_BUDGET", 1)
    parts = compute_importance(pair_model, words, PAIRS, method=method, batch_size=5, progress=False)
    for name, values in whole.items():
        assert torch.allclose(values, parts[name], atol=1e-6, rtol=1e-3), name


def test_wanda_sees_no_filling(pair_model: Any, words: Any) -> None:
    together = compute_importance(pair_model, words, PAIRS, method="wanda", progress=False)
    assert not any("relative_attention_bias" in name or "norm" in name for name in together)
    squares = {
        name: sum(
            compute_importance(pair_model, words, {"de": [pair]}, method="wanda", progress=False)[name].square()
            for pair in PAIRS["de"]
        )
        for name in together
    }
    for name, values in together.items():
        assert torch.allclose(values.square(), squares[name], rtol=1e-3, atol=1e-8), name


def test_edited_and_restored(pair_model: Any, words: Any) -> None:
    mask = compute_core_mask(pair_model, words, PAIRS, fraction=0.2, progress=False)
    before, base = snapshot(pair_model), evaluate_perplexity(pair_model, words, PAIRS, progress=False).nll["de"]
    with perturb(pair_model, mask):
        assert evaluate_perplexity(pair_model, words, PAIRS, progress=False).nll["de"] != pytest.approx(base, abs=1e-3)
    norm = next(name for name in mask if "norm" in name and name.endswith("weight"))
    with scale_dimension(pair_model, norm, 3, factor=10.0):
        assert not same_bits(pair_model, before)
    assert same_bits(pair_model, before)


def test_heads_and_roles_of_t5() -> None:
    model = build_t5()
    assert len(attention_heads(model)) == 3 * 2 * 4  # encoder, decoder, across; two layers of four heads
    roles = roles_of(name for name, _ in model.named_parameters())
    assert roles["encoder.block.1.layer.1.DenseReluDense.wi.weight"].kind == "up"
    assert roles["decoder.block.0.layer.1.EncDecAttention.k.weight"].kind == "k"


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*")
def test_frozen_saved_and_resumed(pair_model: Any, words: Any, tmp_path: Path) -> None:
    """No bit of the core changes in Seq2SeqTrainer, everything else may, and a second run knows the base's values."""
    mask = compute_core_mask(pair_model, words, PAIRS, fraction=0.05, progress=False)
    before = {name: bits_of(value) for name, value in pair_model.named_parameters()}
    rows = Dataset.from_dict(
        {"input_ids": words(SOURCES)["input_ids"], "labels": words(text_target=TARGETS)["input_ids"]}
    )
    pair_model.save_pretrained(tmp_path / "base")
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        per_device_train_batch_size=3,
        learning_rate=0.05,
        weight_decay=0.1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model=pair_model,
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(words, model=pair_model),
        callbacks=[CoreFreezeCallback(mask, base_values=tmp_path / "base")],
    )
    trainer.train()
    changed = {name: bits_of(value) != before[name] for name, value in pair_model.named_parameters()}
    assert sum(int((changed[name] & mask[name]).sum()) for name in mask) == 0
    assert all(bool((changed[name] & ~mask[name]).any()) for name in mask if mask.count(name))


def test_loaded_by_its_config(pair_model: Any, tmp_path: Path) -> None:
    pair_model.save_pretrained(tmp_path)
    assert auto_class_for(tmp_path) is AutoModelForSeq2SeqLM is auto_class_of(pair_model.config)
    build_llama().save_pretrained(tmp_path / "llama")
    assert auto_class_for(tmp_path / "llama").__name__ == "AutoModelForCausalLM"


def test_critical_dimensions_are_refused(pair_model: Any, words: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        find_critical_dimensions(pair_model, words, PAIRS, progress=False)

"""The same figures as an `evaluate` measurement, offline."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import InputError, MissingExtraError
from hf_langcore.evaluation import evaluate_perplexity, load_perplexity_measurement
from hf_langcore.evaluation import measurement as measurement_module


def test_the_same_figures(llama: Any, tokenizer: Any, texts: Any) -> None:
    """compute() gives what evaluate_perplexity gives, from rows of text and language."""
    rows = [(language, text) for language, documents in texts.items() for text in documents]
    result = load_perplexity_measurement().compute(
        data=[text for _, text in rows], language=[language for language, _ in rows], model=llama, tokenizer=tokenizer
    )
    report = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    assert result == {
        "perplexity": report.perplexity,
        "nll": report.nll,
        "tokens": report.tokens,
        "mean_perplexity": report.mean(),
    }


def test_batches_can_be_added(llama: Any, tokenizer: Any, texts: Any) -> None:
    """`add_batch` works as in every other measurement."""
    measurement = load_perplexity_measurement()
    for language, documents in texts.items():
        measurement.add_batch(data=documents, language=[language] * len(documents))
    result = measurement.compute(model=llama, tokenizer=tokenizer, block_size=32)
    report = evaluate_perplexity(llama, tokenizer, texts, block_size=32, progress=False)
    assert result["perplexity"] == report.perplexity


def test_a_live_model_is_needed(tokenizer: Any) -> None:
    """Without model or tokenizer the error says what to pass."""
    with pytest.raises(InputError, match="model="):
        load_perplexity_measurement().compute(data=["a text"], language=["en"], tokenizer=tokenizer)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `evaluate` is not installed the message says how to get it."""

    def missing(*_args: Any, **_options: Any) -> Any:
        raise MissingExtraError("pip install hf_langcore[evaluate]")

    monkeypatch.setattr(measurement_module, "require", missing)
    with pytest.raises(MissingExtraError, match="evaluate"):
        load_perplexity_measurement()

"""Losses of pieces of text: their sums are those of the perplexity report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.evaluation import evaluate_perplexity, prepare_scoring
from hf_langcore.scanning.losses import LONGEST_PIECE, WindowLosses, measure, piece_lengths

OPTIONS = {"block_size": 48, "max_tokens": 90}


def test_pieces_add_up_to_the_report(model: Any, tokenizer: Any, texts: Any) -> None:
    """Per language and over languages, with windows that overlap and are cut into pieces."""
    found = measure(model, prepare_scoring(model, tokenizer, texts, **OPTIONS))
    report = evaluate_perplexity(model, tokenizer, texts, progress=False, **OPTIONS)
    assert found.nll() == pytest.approx(report.nll, rel=1e-5)
    assert found.perplexity == pytest.approx(report.mean(), rel=1e-5)
    assert found.num_tokens == sum(report.tokens.values())
    for language, sums in found.nll_sums.items():
        assert sums.dtype == np.float64
        assert sums.shape == found.tokens[language].shape
        assert found.tokens[language].sum() == report.tokens[language]
        assert found.tokens[language].max() <= LONGEST_PIECE
        assert len(sums) > len(texts[language])


@pytest.mark.parametrize(("scored", "lengths"), [(1, [1]), (32, [32]), (33, [16, 17]), (95, [31, 32, 32])])
def test_pieces_are_of_nearly_equal_length(scored: int, lengths: list[int]) -> None:
    """No piece of a single token behind one of 32."""
    assert piece_lengths(scored) == lengths


def test_the_model_as_it_is(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Another batch size gives the same, and NaN is an infinite loss."""
    task = prepare_scoring(llama, tokenizer, texts, **OPTIONS)
    one, other = measure(llama, task, batch_size=1), measure(llama, task, batch_size=3)
    for language, sums in one.nll_sums.items():
        assert np.allclose(sums, other.nll_sums[language], rtol=1e-4)
    with torch.no_grad():
        llama.lm_head.weight[0, 0] = float("nan")
    broken = measure(llama, task)
    assert all(np.isinf(sums).all() for sums in broken.nll_sums.values())
    assert math.isinf(broken.perplexity)


def test_languages_count_the_same() -> None:
    """However long their texts are; a perplexity that is no float is infinite."""
    losses = WindowLosses(
        {"a": np.array([2.0, 4.0]), "b": np.array([30.0])}, {"a": np.array([1, 2]), "b": np.array([10])}
    )
    assert losses.nll() == {"a": 2.0, "b": 3.0}
    assert losses.mean_nll() == 2.5
    assert losses.perplexity == pytest.approx(math.exp(2.5))
    assert math.isinf(WindowLosses({"a": np.array([1e4])}, {"a": np.array([1])}).perplexity)

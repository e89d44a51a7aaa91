"""Importance exactly as published, against a straightforward reimplementation of the published algorithm."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.architecture import decoder_weights
from hf_langcore.data import pack_blocks, start_token
from hf_langcore.errors import NonFiniteError
from hf_langcore.importance import compute_core_mask, compute_importance
from hf_langcore.importance.gradients import gradient_scores
from hf_langcore.masks import CoreMask
from hf_langcore.modes import gradients_for

LANGUAGES = ("en", "de", "fr")
BLOCK = 12


def corpus(blocks: int, seed: int) -> list[str]:
    """Random documents, enough for so many blocks."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randint(97, 123, (blocks, BLOCK - 1), generator=generator).tolist()
    return ["".join(map(chr, row)) for row in letters]


def published_importance(model: Any, batches: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The published algorithm, written plainly: backward over all batches, grad x weight, abs, sum over languages."""
    total: dict[str, torch.Tensor] = {}
    for language_batches in batches.values():
        model.zero_grad()
        for batch in language_batches:
            model(input_ids=batch, labels=batch).loss.backward()
        for name, parameter in model.named_parameters():
            if ".layers." in name or ".h." in name:
                total[name] = total.get(name, 0) + (parameter.grad * parameter).detach().abs()
    model.zero_grad()
    return total


def plain_scores(method: str, model: Any, batches: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One backward pass for each batch; "taylor_abs": sum of abs(grad x weight); "fisher": mean of grad squared."""
    total: dict[str, torch.Tensor] = {}
    for language_batches in batches.values():
        for batch in language_batches:
            model.zero_grad()
            model(input_ids=batch, labels=batch).loss.backward()
            for name, parameter in model.named_parameters():
                if ".layers." in name or ".h." in name:
                    if method == "taylor_abs":
                        value = (parameter.grad * parameter).detach().abs()
                    else:
                        value = parameter.grad**2 / len(language_batches)
                    total[name] = total.get(name, 0) + value
    model.zero_grad()
    return total


def published_mask(scores: torch.Tensor, fraction: float) -> torch.Tensor:
    """The top k of a flattened tensor."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(int(fraction * scores.numel())).indices] = True
    return mask.view(scores.shape)


def disagreements(mask: torch.Tensor, other: torch.Tensor, scores: torch.Tensor) -> int:
    """Entries on which two masks differ although their score is not the threshold, up to float32 rounding."""
    if not other.any():
        return int((mask != other).sum())
    threshold = scores[other].min()
    tie = (scores - threshold).abs() <= 1e-5 * threshold
    return int(((mask != other) & ~tie).sum())


@pytest.mark.parametrize("fraction", [0.01, 0.03, 0.05, 0.3])
@pytest.mark.parametrize(("blocks", "batch_size"), [(8, 4), (7, 3), (5, 8)])
def test_masks_are_those_of_the_published_algorithm(
    model: Any, tokenizer: Any, fraction: float, blocks: int, batch_size: int
) -> None:
    """Identical masks in fp32, also where the last batch is smaller, up to ties at the threshold."""
    corpora = {language: corpus(blocks, seed) for seed, language in enumerate(LANGUAGES)}
    start = start_token(tokenizer)
    batches = {
        language: list(pack_blocks(language, documents, tokenizer, start=start, block_size=BLOCK).split(batch_size))
        for language, documents in corpora.items()
    }
    expected = published_importance(model, batches)

    scores = compute_importance(model, tokenizer, corpora, block_size=BLOCK, batch_size=batch_size, progress=False)
    mask = CoreMask.from_scores(scores, fraction=fraction)

    assert set(scores) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(scores[name], values, rtol=1e-5, atol=1e-9)
        assert mask[name].sum() == int(fraction * values.numel())
        assert disagreements(mask[name], published_mask(scores[name], fraction), scores[name]) == 0
        assert disagreements(mask[name], published_mask(values, fraction), values) == 0


@pytest.mark.parametrize("fraction", [0.01, 0.1])
@pytest.mark.parametrize(("method", "batch_size"), [("taylor_abs", 3), ("fisher", 3), ("fisher", 1)])
def test_other_gradient_scores_are_those_of_their_formulas(
    model: Any, tokenizer: Any, method: str, batch_size: int, fraction: float
) -> None:
    """Absolute values and squares are taken for each batch; the masks are the same, also with a smaller last batch."""
    corpora = {language: corpus(7, seed) for seed, language in enumerate(LANGUAGES)}
    start = start_token(tokenizer)
    batches = {
        language: list(pack_blocks(language, documents, tokenizer, start=start, block_size=BLOCK).split(batch_size))
        for language, documents in corpora.items()
    }
    expected = plain_scores(method, model, batches)
    options = {"block_size": BLOCK, "batch_size": batch_size, "progress": False}
    scores = compute_importance(model, tokenizer, corpora, method=method, **options)
    mask = compute_core_mask(model, tokenizer, corpora, method=method, fraction=fraction, **options)
    assert set(scores) == set(expected)
    assert scores.provenance.method == mask.provenance.method == method
    for name, values in expected.items():
        assert (scores[name] - values).abs().max() <= 1e-6 * values.max()
        assert disagreements(mask[name], published_mask(values, fraction), values) == 0


def test_signed_gradients_cancel(llama: Any, tokenizer: Any) -> None:
    """Signs are kept while batches are summed: opposite gradients give less than the sum of absolute values."""
    corpora = {"en": corpus(6, 0)}
    whole = compute_importance(llama, tokenizer, corpora, block_size=BLOCK, batch_size=1, progress=False)
    parts = [
        compute_importance(llama, tokenizer, {"en": [text]}, block_size=BLOCK, batch_size=1, progress=False)
        for text in corpora["en"]
    ]
    for name, values in whole.items():
        separate = sum(part[name] for part in parts)
        assert (values <= separate + 1e-5).all()
        assert values.sum() < 0.99 * separate.sum()


def test_languages_are_summed(llama: Any, tokenizer: Any) -> None:
    """The importance in two languages is the sum of the two importances."""
    both = {"en": corpus(4, 0), "de": corpus(4, 1)}
    options = {"block_size": BLOCK, "batch_size": 2, "progress": False}
    total = compute_importance(llama, tokenizer, both, **options)
    single = [compute_importance(llama, tokenizer, {code: texts}, **options) for code, texts in both.items()]
    for name, values in total.items():
        assert torch.equal(values, single[0][name] + single[1][name])


@pytest.mark.parametrize("method", ["taylor", "taylor_abs", "fisher"])
def test_splitting_a_batch_does_not_change_the_scores(
    llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A batch that is split for memory gives the gradient of the whole batch's mean loss."""
    corpora = {"en": corpus(20, 0)}
    options = {"block_size": BLOCK, "batch_size": 8, "progress": False, "method": method}
    whole = compute_importance(llama, tokenizer, corpora, **options)
    monkeypatch.setattr("hf_langcore.importance.gradients._LOGIT_BUDGET", 3 * BLOCK * llama.config.vocab_size)
    split = compute_importance(llama, tokenizer, corpora, **options)
    for name, values in whole.items():
        torch.testing.assert_close(split[name], values, rtol=1e-4, atol=1e-6 * float(values.max()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_loss_names_the_language(llama: Any, tokenizer: Any, bad: float) -> None:
    """NaN or infinity while scoring is an error that says where and what to do."""
    with torch.no_grad():
        llama.model.norm.weight[0] = bad
    with pytest.raises(NonFiniteError, match=r"'de'.*float32"):
        compute_core_mask(llama, tokenizer, {"de": corpus(2, 0)}, block_size=BLOCK, progress=False)


def test_no_gradient_outlives_its_layer(llama: Any, tokenizer: Any) -> None:
    """Gradients are added to their sums and dropped during the backward pass."""

    class Bar:
        def update(self, count: int) -> None:
            assert all(parameter.grad is None for parameter in llama.parameters())

    weights = decoder_weights(llama)
    blocks = pack_blocks("en", corpus(4, 0), tokenizer, start=start_token(tokenizer), block_size=BLOCK)
    with gradients_for(llama, [weight.parameter for weight in weights.values()]):
        scores = gradient_scores(llama, weights, blocks, method="taylor", batch_size=2, language="en", bar=Bar())
    assert set(scores) == set(weights)


@pytest.mark.parametrize("method", ["taylor", "taylor_abs", "fisher"])
def test_bf16_models_are_accumulated_in_float32(tokenizer: Any, llama: Any, method: str) -> None:
    """Scores of a bf16 model are float32 sums and stay close to those of the float32 model."""
    corpora = {"en": corpus(16, 0)}
    options = {"block_size": BLOCK, "batch_size": 1, "progress": False, "method": method}
    exact = compute_importance(llama, tokenizer, corpora, **options)
    rounded = compute_importance(llama.to(torch.bfloat16), tokenizer, corpora, **options)
    for name, values in rounded.items():
        assert values.dtype == torch.float32
        overlap = CoreMask.from_scores({name: values}, fraction=0.2).jaccard(
            CoreMask.from_scores({name: exact[name]}, fraction=0.2)
        )
        assert overlap > 0.5

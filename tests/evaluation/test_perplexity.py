"""Perplexity: token-weighted, BOS first, each token once, whatever the batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity, prepare_scoring, score

LONG = {
    "en": ["a long document that does not fit into one window of sixteen tokens at all", "short", "x"],
    "de": ["noch ein Text, der länger ist als ein Fenster", "kurz"],
}


def plain_nll(model: Any, tokenizer: Any, documents: list[str]) -> tuple[float, int]:
    """One forward pass per document, written plainly; the documents fit one window."""
    total, count = 0.0, 0
    for text in documents:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total, count


def test_token_weighted(model: Any, tokenizer: Any, texts: Any) -> None:
    """exp(sum of losses / tokens), not a mean over documents or batches."""
    report = evaluate_perplexity(model, tokenizer, texts, block_size=64, progress=False)
    for language, documents in texts.items():
        total, count = plain_nll(model, tokenizer, documents)
        assert report.tokens[language] == count
        assert report.nll[language] == pytest.approx(total / count, rel=1e-5)
        assert report.perplexity[language] == pytest.approx(math.exp(total / count), rel=1e-5)


@pytest.mark.parametrize("block_size", [5, 16, 64])
def test_batches_do_not_change_the_figures(model: Any, tokenizer: Any, block_size: int) -> None:
    """The same figures for any batch size, so padding is never seen, and for any order of documents."""
    runs = [
        evaluate_perplexity(model, tokenizer, corpora, block_size=block_size, batch_size=size, progress=False)
        for corpora, size in (
            (LONG, 1),
            (LONG, 3),
            (LONG, "auto"),
            ({code: documents[::-1] for code, documents in LONG.items()}, 2),
        )
    ]
    for run in runs[1:]:
        assert run.tokens == runs[0].tokens
        for language, nll in run.nll.items():
            assert nll == pytest.approx(runs[0].nll[language], rel=1e-5)


@pytest.mark.parametrize(("block_size", "stride"), [(6, 1), (6, 5), (16, None), (16, 8), (9, 4)])
def test_sliding_windows_score_every_token_once(
    llama: Any, tokenizer: Any, block_size: int, stride: int | None
) -> None:
    """The windows' losses, computed one by one with their context, sum to the report's."""
    documents = LONG["en"]
    report = evaluate_perplexity(
        llama, tokenizer, {"en": documents}, block_size=block_size, stride=stride, progress=False
    )
    step, width = stride or block_size // 2, block_size - 1
    total = 0.0
    for text in documents:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for position, target in enumerate(ids):
            end = min(len(ids), width if position < width else width + step * math.ceil((position + 1 - width) / step))
            begin = max(0, end - width)
            context = torch.tensor([[1, *ids[begin:position]]])
            with torch.no_grad():
                total -= float(llama(input_ids=context).logits[0, -1].float().log_softmax(-1)[target])
    count = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in documents)
    assert report.tokens == {"en": count}
    assert report.nll["en"] == pytest.approx(total / count, rel=1e-4)


def test_more_context_changes_the_figure(llama: Any, tokenizer: Any) -> None:
    """Windows really have context: without it the losses of later tokens differ."""
    wide = evaluate_perplexity(llama, tokenizer, LONG, block_size=64, progress=False)
    narrow = evaluate_perplexity(llama, tokenizer, LONG, block_size=5, progress=False)
    assert wide.tokens == narrow.tokens
    assert wide.nll["en"] != pytest.approx(narrow.nll["en"], rel=1e-4)


def test_max_tokens_cuts_exactly(llama: Any, tokenizer: Any) -> None:
    """`max_tokens` counts scored tokens per language."""
    report = evaluate_perplexity(llama, tokenizer, LONG, block_size=16, max_tokens=30, progress=False)
    assert report.tokens == {"en": 30, "de": 30}


def test_model_is_left_as_it_was(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Training mode comes back and no gradient is made."""
    llama.train()
    evaluate_perplexity(llama, tokenizer, texts, progress=False)
    assert all(module.training for module in llama.modules())
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_dropout_is_off(gpt2: Any, tokenizer: Any, texts: Any) -> None:
    """A model in training mode is measured without dropout."""
    gpt2.train()
    first, second = (evaluate_perplexity(gpt2, tokenizer, texts, progress=False) for _ in range(2))
    assert first.nll == second.nll


def test_start_token_falls_back_to_eos(llama: Any, texts: Any, tokenizer: Any) -> None:
    """Without BOS the EOS token starts a window, without both an id must be given; the report says which."""
    tokenizer.bos_token_id = None
    report = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    assert report.settings["start_token"] == "eos (id 2)"  # noqa: S105 a token of a tokenizer
    tokenizer.eos_token_id = None
    with pytest.raises(UnsupportedModelError, match="bos_token_id="):
        evaluate_perplexity(llama, tokenizer, texts, progress=False)
    given = evaluate_perplexity(llama, tokenizer, texts, bos_token_id=2, progress=False)
    assert given.settings["start_token"] == "given (id 2)"  # noqa: S105 as above
    assert given.nll == report.nll


def test_settings_say_what_was_measured(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Block size (at most the context), stride, dtype and a digest of the text."""
    report = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    assert report.settings["block_size"] == 64, "the model's context, not the default of 512"
    assert report.settings["dtype"] == "float32"
    other = evaluate_perplexity(llama, tokenizer, {**texts, "de": ["anders"]}, progress=False)
    assert report.settings["text_sha256"] != other.settings["text_sha256"]


def test_nonfinite_losses(llama: Any, tokenizer: Any, texts: Any) -> None:
    """NaN is an error that names the language, or an infinite perplexity where that is asked for."""
    with torch.no_grad():
        llama.model.norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="'en'"):
        evaluate_perplexity(llama, tokenizer, texts, progress=False)
    report = evaluate_perplexity(llama, tokenizer, texts, on_nonfinite="inf", progress=False)
    assert report.perplexity == {"en": math.inf, "de": math.inf}
    assert report.mean() == math.inf


def test_prepared_text_is_tokenised_once(llama: Any, tokenizer: Any, texts: Any) -> None:
    """A task is scored again without reading text, with the same figures."""
    task = prepare_scoring(llama, tokenizer, texts)
    calls = len(tokenizer.calls)
    first, second = (score(llama, task, progress=False) for _ in range(2))
    assert len(tokenizer.calls) == calls
    assert first.nll == second.nll == evaluate_perplexity(llama, tokenizer, texts, progress=False).nll
    assert task.num_tokens == sum(first.tokens.values())


def test_bad_input_is_named(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Each wrong argument gets an error that says what was expected."""
    with pytest.raises(CorpusError, match=r"'en'.*at least 2"):
        evaluate_perplexity(llama, tokenizer, {"en": ["x"]}, progress=False)
    with pytest.raises(CorpusError, match="0 tokens"):
        evaluate_perplexity(llama, tokenizer, {"en": ["", "  "]}, progress=False)
    with pytest.raises(CorpusError, match=r"'en'.*missing\.txt"):
        evaluate_perplexity(llama, tokenizer, {"en": "missing.txt"}, progress=False)
    with pytest.raises(InputError, match="stride"):
        evaluate_perplexity(llama, tokenizer, texts, block_size=8, stride=8, progress=False)
    with pytest.raises(InputError, match="batch_size"):
        evaluate_perplexity(llama, tokenizer, texts, batch_size="large", progress=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_nonfinite"):
        evaluate_perplexity(llama, tokenizer, texts, on_nonfinite="skip", progress=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_tokens"):
        evaluate_perplexity(llama, tokenizer, texts, max_tokens=0, progress=False)


def test_wrapped_models(llama: Any, tokenizer: Any, texts: Any) -> None:
    """A model in DataParallel is measured as it is, and virtual tokens of prompt tuning are context, not text."""
    from peft import PromptTuningConfig, get_peft_model

    plain = evaluate_perplexity(llama, tokenizer, texts, block_size=48, progress=False)
    parallel = evaluate_perplexity(torch.nn.DataParallel(llama), tokenizer, texts, block_size=48, progress=False)
    assert parallel.nll == pytest.approx(plain.nll)
    prompted = get_peft_model(llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    report = evaluate_perplexity(prompted, tokenizer, texts, block_size=48, progress=False)
    assert report.tokens == plain.tokens
    assert report.nll["en"] != pytest.approx(plain.nll["en"])

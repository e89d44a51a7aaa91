"""A tiny multilingual Llama from scratch."""

from __future__ import annotations

import pytest
import torch

from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import CorpusError, InputError, NonFiniteError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.recipes.pretraining import TinyModel, pretrain, train_tokenizer

SMALL = TinyModel(
    vocab_size=400, hidden_size=32, intermediate_size=64, layers=1, heads=2, block_size=32, batch_size=4, steps=30
)


def test_it_learns() -> None:
    """A few steps on two languages beat an untrained model by far, in both."""
    corpora = mini_corpora(["en", "zh"], sentences=200)
    held_out = mini_corpora(["en", "zh"], sentences=24, start=200)
    model, tokenizer = pretrain(corpora, shape=SMALL, progress=False)
    report = evaluate_perplexity(model, tokenizer, held_out, progress=False)
    assert not model.training
    assert all(perplexity < 0.6 * len(tokenizer) for perplexity in report.perplexity.values())


def test_the_same_seed_gives_the_same_model() -> None:
    """Seeded, so that a cached model can be made again."""
    corpora = mini_corpora(["en"], sentences=60)
    shape = TinyModel(**{**{f: getattr(SMALL, f) for f in SMALL.__slots__}, "steps": 3})
    first, again = (pretrain(corpora, shape=shape, progress=False)[0] for _ in range(2))
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))


def test_tokenizer_covers_every_script() -> None:
    """Byte-level: any text comes back, and the special tokens are set."""
    texts = ["The cat sees a dog.", "猫看见狗。", "القط يرى كلبا"]
    tokenizer = train_tokenizer(texts, vocab_size=300)
    for text in (*texts, "Ελληνικά 🐈"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_bad_input_is_named() -> None:
    """No text, no steps, or a diverging run."""
    with pytest.raises(CorpusError):
        pretrain({}, shape=SMALL, progress=False)
    with pytest.raises(InputError, match="steps"):
        pretrain({"en": ["a text that is long enough"]}, shape=TinyModel(steps=0), progress=False)
    wild = TinyModel(**{**{f: getattr(SMALL, f) for f in SMALL.__slots__}, "learning_rate": float("inf")})
    with pytest.raises(NonFiniteError, match="learning rate"):
        pretrain(mini_corpora(["en"], sentences=60), shape=wild, progress=False)

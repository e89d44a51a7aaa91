"""A tiny encoder from scratch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM

from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.recipes.encoder import (
    CHECKPOINT,
    TinyEncoder,
    pretrain_encoder,
    train_masked,
    train_masking_tokenizer,
)
from hf_langcore.recipes.masking import SPECIAL_TOKENS, masked_loss

SMALL = TinyEncoder(
    vocab_size=300, hidden_size=32, intermediate_size=48, layers=1, heads=2, block_size=24, batch_size=8, steps=60
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_masking_tokenizer(["The cat sees a dog.", "猫看见狗。"], vocab_size=300)


def test_it_learns() -> None:
    """In both languages masked tokens are told from their neighbours far better than by frequency."""
    corpora = {"en": ["one two three four five six seven " * 40], "de": ["eins zwei drei vier sechs sieben " * 40]}
    shape = replace(SMALL, learning_rate=1e-2, steps=150)
    model, tokenizer = pretrain_encoder(corpora, shape=shape, progress=False)
    found = masked_loss(model, tokenizer, corpora, block_size=24)
    assert not model.training
    assert set(found) == {"en", "de"}
    assert all(one.nats < 0.7 * one.unigram for one in found.values())
    assert all(one.tokens > 20 for one in found.values())


def test_saved_and_loaded(tmp_path: Path, tokenizer: Any) -> None:
    """Model and tokenizer come back by the Auto classes, with their special tokens around a text."""
    shape = replace(SMALL, steps=1)
    model, _ = pretrain_encoder({"en": ["The cat sees a dog. " * 9]}, shape=shape, tokenizer=tokenizer, progress=False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.convert_ids_to_tokens(range(4)) == list(SPECIAL_TOKENS)
    assert (again.pad_token_id, again.cls_token_id, again.sep_token_id, again.mask_token_id) == (0, 1, 2, 3)
    ids = again("猫 cat")["input_ids"]
    assert (ids[0], ids[-1]) == (1, 2)
    assert again.decode(ids, skip_special_tokens=True) == "猫 cat"
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def test_the_head_is_computed_where_it_is_needed(tokenizer: Any) -> None:
    """With labels there are logits of masked tokens only, and the loss is that of all logits."""
    model, _ = pretrain_encoder(
        {"en": ["The cat sees a dog. " * 9]}, shape=replace(SMALL, steps=1), tokenizer=tokenizer, progress=False
    )
    ids = torch.tensor([[1, 7, 8, 9, 2]])
    labels = torch.tensor([[-100, 7, -100, 9, -100]])
    with torch.no_grad():
        sparse, dense = model(ids, labels=labels), model(ids)
    assert torch.allclose(sparse.logits, dense.logits[0, [1, 3]], atol=1e-5)


def test_any_masked_model(tokenizer: Any) -> None:
    """BERT, whose head gives all logits: its loss before training is that of guessing, and training lowers it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)).eval()
    corpora = {"en": ["The cat sees a dog. " * 40], "zh": ["猫看见狗。" * 40]}
    before = masked_loss(model, tokenizer, corpora, block_size=16, seed=1)
    assert [one.nats for one in before.values()] == pytest.approx([math.log(len(tokenizer))] * 2, abs=0.3)
    train_masked(model, tokenizer, corpora, steps=30, block_size=16, learning_rate=1e-2)
    after = masked_loss(model, tokenizer, corpora, block_size=16, seed=1)
    assert not model.training
    assert all(after[language].nats < before[language].nats - 1 for language in corpora)
    assert masked_loss(model, tokenizer, corpora, block_size=16, seed=1, batch_size=1) == {
        language: replace(one, nats=pytest.approx(one.nats, abs=1e-5)) for language, one in after.items()
    }


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """The folder holds the state: a second call makes the same model without training."""
    corpora = mini_corpora(["en"], sentences=60)
    first, _ = pretrain_encoder(corpora, shape=replace(SMALL, steps=2), folder=tmp_path, progress=False)
    assert (tmp_path / CHECKPOINT).exists()
    torch.manual_seed(5)
    again, _ = pretrain_encoder(corpora, shape=replace(SMALL, steps=2), folder=tmp_path, progress=False)
    straight, _ = pretrain_encoder(corpora, shape=replace(SMALL, steps=2), progress=False)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert torch.equal(parameter, straight.get_parameter(name))
    with pytest.raises(InputError, match="another model"):
        pretrain_encoder(corpora, shape=replace(SMALL, layers=2), folder=tmp_path, progress=False)


def test_bad_input_is_named(bpe: Any) -> None:
    """No text, a share that is none, and a decoder's tokenizer."""
    with pytest.raises(CorpusError):
        pretrain_encoder({}, shape=SMALL, progress=False)
    with pytest.raises(InputError, match=r"mask_share must lie between 0 and 1, got 1\.5"):
        pretrain_encoder({"en": ["a text of some words"]}, shape=replace(SMALL, mask_share=1.5), progress=False)
    with pytest.raises(UnsupportedModelError, match="no cls, sep, mask token"):
        pretrain_encoder({"en": ["a text of some words"]}, shape=SMALL, tokenizer=bpe, progress=False)

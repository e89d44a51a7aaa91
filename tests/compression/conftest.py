"""Tokenizers that can decode: a byte-level one that gives everything back, and one that normalises."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ["the cat sat on the mat and looked at the moon", "die Katze sitzt auf der Matte und sieht den Mond"] * 3
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def _train(model: Tokenizer, size: int, **options: Any) -> PreTrainedTokenizerFast:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>", "</s>", "<pad>", "<unk>"], show_progress=False, **options
    )
    model.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", **_SPECIAL)  # noqa: S106 no password


@pytest.fixture(scope="session")
def exact() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 280 tokens, as GPT-2's: any valid text comes back."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return _train(model, 280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="session")
def normalising() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them: NFKC, marks for spaces, an unknown token for signs that it has not seen."""
    model = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106 no password
    model.normalizer = normalizers.NFKC()
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    return _train(model, 120)


@pytest.fixture(scope="session")
def coder_llama() -> Any:
    """A tiny Llama with enough tokens for both; nobody may change it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=290,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def coder_gpt2() -> Any:
    """A tiny GPT-2 with learnt positions: beyond its context it has none."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=290, n_embd=32, n_layer=2, n_head=4, n_positions=24, initializer_range=0.2, bos_token_id=0
    )
    return GPT2LMHeadModel(config).eval()

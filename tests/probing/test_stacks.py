"""Which part of a model makes hidden states, and how much it reads."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from hf_langcore.errors import UnsupportedModelError
from hf_langcore.probing.stacks import context_length, is_encoder, text_stack
from tests.conftest import ByteTokenizer, build_gpt2, build_llama, build_t5
from tests.probing.conftest import build_bert


def test_encoders_by_their_config() -> None:
    """BERT is one unless it was made a decoder; T5 has one."""
    assert is_encoder(build_bert())
    assert is_encoder(build_bert().config)
    assert not is_encoder(build_bert(is_decoder=True))
    assert is_encoder(build_t5())
    assert not is_encoder(build_llama())
    assert not is_encoder(build_gpt2())


def test_stacks_have_no_head() -> None:
    llama, bert, t5 = build_llama(), build_bert(), build_t5()
    assert text_stack(llama) is llama.model
    assert text_stack(llama.model) is llama.model
    assert text_stack(bert) is bert.bert
    assert text_stack(t5) is t5.encoder
    with pytest.raises(UnsupportedModelError, match="no config"):
        text_stack(nn.Linear(2, 2))


def test_the_context_is_the_least_of_all_limits() -> None:
    """Config, tokenizer, and RoBERTa's positions, the first of which belong to padding."""
    from transformers import RobertaConfig, RobertaModel

    tokenizer: Any = ByteTokenizer()
    assert context_length(build_llama(), tokenizer) == 64
    assert context_length(build_gpt2(), tokenizer) == 64
    assert context_length(build_t5(), tokenizer) == 1 << 20
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    roberta = RobertaModel(RobertaConfig(vocab_size=20, max_position_embeddings=40, pad_token_id=1, **shape))
    assert context_length(roberta, tokenizer) == 38
    tokenizer.model_max_length = 20
    assert context_length(roberta, tokenizer) == 20
    tokenizer.model_max_length = int(1e30)
    assert context_length(roberta, tokenizer) == 38

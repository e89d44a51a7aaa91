"""A tokenizer of bytes, and models that write what they are told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {symbol: number for number, symbol in enumerate(["<s>", "</s>", *sorted(alphabet)])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def _llama(layers: int = 1, context: int = 192) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def model() -> Any:
    """A random Llama over the bytes."""
    return _llama()


@pytest.fixture
def parrot(tokenizer: Any) -> Callable[[str], Any]:
    """A model that writes one text after every prompt: the byte after a byte, whatever came before."""

    def make(text: str) -> Any:
        model = _llama()
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]

        def forward(input_ids: torch.Tensor, **_: Any) -> Any:
            raise AssertionError("replaced by generate")

        def generate(*, input_ids: torch.Tensor, generation_config: Any, **_: Any) -> torch.Tensor:
            written = torch.tensor([ids[: generation_config.max_new_tokens]] * len(input_ids))
            return torch.cat([input_ids, written], dim=1)

        model.forward, model.generate = forward, generate
        return model

    return make

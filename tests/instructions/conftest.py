"""A tokenizer of transformers with a chat template, and a model that has learned a few sums by heart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_langcore.data.rows import tokenise

SUMS = [
    {
        "prompt": f"{first} + {second} =",
        "completion": f" {first + second}",
        "answer": str(first + second),
        "operation": "+",
    }
    for first, second in ((1, 2), (10, 25), (7, 100), (333, 4))
] + [{"prompt": "9 - 4 =", "completion": " 5", "answer": "5", "operation": "-"}]
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}:{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def bytewise() -> PreTrainedTokenizerFast:
    """One token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate(["<s>", "</s>", "<pad>", *alphabet])}
    model = Tokenizer(models.BPE(vocab=words, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, **special)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def llama(seed: int = 0) -> Any:
    """A random Llama for the tokenizer's 259 tokens."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def adder(bytewise: Any) -> Any:
    """A model that knows the sums by heart."""
    model = llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [tokenise(row, bytewise, form="prompt_completion") for row in SUMS]
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [2] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in rows])
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()

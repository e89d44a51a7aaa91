"""A tokenizer of transformers, tasks of a few tokens, and runs that were never run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_langcore.recipes.protection.record import ProtectionRun
from hf_langcore.recipes.protection.tasks import ProtectionSize, Target

TRAIN = {
    "en": ["the cat sat on the mat and looked at the moon", "a dog ran home over the old bridge at night"] * 3,
    "de": ["die Katze sitzt auf der Matte und sieht den Mond", "ein Hund lief in der Nacht nach Hause"] * 3,
    "zh": ["猫坐在垫子上看着月亮", "狗在夜里跑回家"] * 6,
}
TEST = {
    "en": ["we saw two birds in the old tree near the river", "she reads a letter"],
    "de": ["zwei alte Bäume stehen an dem breiten Fluss", "er schreibt einen Brief"],
    "zh": ["我们看见树上有两只鸟", "她在河边读信"],
}
SIZE = ProtectionSize(
    block_size=12,
    blocks=6,
    batch_size=2,
    sums=8,
    largest=9,
    sums_epochs=2,
    sums_batch_size=4,
    sums_general_block=10,
    test_sums=6,
    choice_sums=4,
    general_blocks=4,
    target_blocks=3,
    choice_blocks=2,
    kept_blocks=2,
)


@pytest.fixture(scope="session")
def bpe() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 290 tokens that adds no special token by itself."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(TRAIN["en"] + TRAIN["de"], trainer)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=model, **special)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """Texts of three languages, and sizes of a few tokens."""
    return SimpleNamespace(train=TRAIN, test=TEST, size=SIZE)


@pytest.fixture(scope="module")
def bpe_llama() -> LlamaForCausalLM:
    """A random Llama for the tokenizer `bpe`; nobody may change it."""
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
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def make_run() -> Callable[..., ProtectionRun]:
    """A run with a given gain and loss of what was kept."""

    def make(method: str, seed: int, gain: float, forgotten: float, **other: Any) -> ProtectionRun:
        values: dict[str, Any] = {
            "task": "zh",
            "target_before": Target(4.0),
            "target_after": Target(4.0 - gain),
            "choice_gain": gain,
            "kept_before": {"en": 3.0, "de": 2.0},
            "kept_after": {"en": 3.0 + 2 * forgotten, "de": 2.0},
            "core_changed": 0,
            "core_size": 10,
            "trained": 100,
            "steps": 3,
            "seconds": 1.5,
            "settings": {"bf16": False},
        }
        return ProtectionRun(method=method, seed=seed, **{**values, **other})

    return make

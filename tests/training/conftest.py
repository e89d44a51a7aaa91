"""A tiny tokenizer, tiny models, masks and data sets; nothing comes from a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.masks import CoreMask, Provenance, fingerprint

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
BIT_VIEWS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the cat sat on the mat", "a dog and a cat", "how are you today"], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    bpe.save(str(path))
    return path


@pytest.fixture
def tokenizer(tokenizer_file: Path) -> PreTrainedTokenizerFast:
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), **special)
    loaded.chat_template = TEMPLATE
    return loaded


def tiny_llama(dtype: torch.dtype = torch.float32, *, tie: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=tie,
    )
    return LlamaForCausalLM(config).to(dtype)


def tiny_gpt2(dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )
    return GPT2LMHeadModel(config).to(dtype)


def core_of(model: nn.Module, *, fraction: float = 0.05, seed: int = 0) -> CoreMask:
    """A random core that knows the model's fingerprint."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: weight.parameter for name, weight in decoder_weights(model).items()}
    scores = {name: torch.rand(value.shape, generator=generator) for name, value in parameters.items()}
    provenance = Provenance(method="test", base_model="tiny", base_fingerprint=fingerprint(parameters))
    return CoreMask.from_scores(scores, fraction=fraction, provenance=provenance)


def bits_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter's bits, as integers."""
    return {
        name: weight.parameter.detach().view(BIT_VIEWS[weight.parameter.dtype]).clone()
        for name, weight in bare_weights(model).items()
    }


def changed_bits(before: dict[str, torch.Tensor], model: nn.Module, core_mask: CoreMask) -> tuple[int, int]:
    """How many core weights and how many others of the covered tensors have other bits than before."""
    after = bits_of(model)
    core = complement = 0
    for name in core_mask:
        different = before[name] != after[name]
        core += int(different[core_mask[name]].sum())
        complement += int(different[~core_mask[name]].sum())
    return core, complement


@pytest.fixture
def tiny() -> SimpleNamespace:
    """The helpers above; tests cannot import a conftest."""
    return SimpleNamespace(
        llama=tiny_llama, gpt2=tiny_gpt2, core_of=core_of, bits_of=bits_of, changed_bits=changed_bits
    )


@pytest.fixture
def task() -> Dataset:
    """Eight short prompts with completions; each says which row it is."""
    return Dataset.from_list([{"prompt": f"question {i} ", "completion": f"answer {i}"} for i in range(8)])


@pytest.fixture
def general() -> Dataset:
    return Dataset.from_list([{"text": f"the cat sat on mat {i}"} for i in range(100)])


@pytest.fixture
def sft_args(tmp_path: Path) -> Callable[..., Any]:
    """A configuration for a CPU, three small steps unless told otherwise."""
    from hf_langcore.training import CoreRegionSFTConfig

    def make(**changes: Any) -> Any:
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.1,
            "bf16": False,
            "use_cpu": True,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "max_length": 64,
        }
        return CoreRegionSFTConfig(**{**values, **changes})

    return make


@pytest.fixture
def plain_args(tmp_path: Path) -> Callable[..., Any]:
    """TrainingArguments of transformers for a CPU."""
    from transformers import TrainingArguments

    def make(**changes: Any) -> Any:
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.1,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        return TrainingArguments(**{**values, **changes})

    return make


@pytest.fixture
def token_rows() -> Dataset:
    """Sixteen rows of random tokens for a plain Trainer."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 300, (16, 12), generator=generator).tolist()
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in tokens])

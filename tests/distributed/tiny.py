"""A tiny Llama with uneven sizes, a core with norm weights in it, rows, and arguments for a few steps on CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, default_data_collator

from hf_langcore import CoreMask
from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.binding import provenance_of

VOCABULARY = 301


def build(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """Two processes cannot share vocabulary, hidden and intermediate size evenly; embeddings are tied."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=31,
        intermediate_size=63,
        num_hidden_layers=2,
        num_attention_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(dtype)


def core_of(model: LlamaForCausalLM) -> CoreMask:
    """A random core: 3 % of each matrix, and 30 % of each norm."""
    generator = torch.Generator().manual_seed(1)
    weights = decoder_weights(model)
    masks = {
        name: torch.rand(weight.shape, generator=generator) < (0.03 if len(weight.shape) > 1 else 0.3)
        for name, weight in weights.items()
    }
    return CoreMask(masks, provenance=provenance_of(model, weights, method="random"))


def copy_of(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Parameter name -> values, before any strategy has prepared the model."""
    return {name: weight.parameter.detach().clone() for name, weight in bare_weights(model).items()}


def rows() -> Dataset:
    """Sixteen rows of random tokens."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, VOCABULARY, (16, 12), generator=generator).tolist()
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in tokens])


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Few steps on CPUs, with a weight decay that bfloat16 does not round away."""
    # The arguments of the training before have left their precision here.
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.5,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    return TrainingArguments(**{**values, **changes})


def trainer_of(
    model: LlamaForCausalLM, folder: Path, *callbacks: Any, optimizer: Any = None, **changes: Any
) -> Trainer:
    """The plain Trainer; `optimizer` is a class with its arguments."""
    return Trainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=rows(),
        eval_dataset=rows(),
        data_collator=default_data_collator,
        callbacks=list(callbacks),
        optimizer_cls_and_kwargs=optimizer,
    )

"""The models that the adapter benchmarks compare: one Llama with random weights, with LoRA or with CORE_REGION."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from hf_langcore import CoreRegionConfig

RANK = 16
SEQUENCE = 512


@dataclass(frozen=True, slots=True)
class Setting:
    """One case.

    Attributes:
        tokens: In a step.
        dtype: Of the base model.
        autocast: Run under bfloat16 autocast.
        method: How the core is chosen.
        fraction: Share of it.
        layers: Decoder layers.
        width: Hidden size.
        device: "cpu" or "cuda".
    """

    tokens: int = 2048
    dtype: torch.dtype = torch.float32
    autocast: bool = False
    method: str = "random"
    fraction: float = 0.01
    layers: int = 2
    width: int = 1024
    device: str = "cpu"

    def but(self, **changes: Any) -> Setting:
        """The same with changes."""
        return replace(self, **changes)

    def base(self) -> Any:
        """A fresh base model, the same on every call."""
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=4096,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.width // 64,
            num_key_value_heads=self.width // 64,
            intermediate_size=self.width * 11 // 4,
            max_position_embeddings=SEQUENCE,
        )
        return LlamaForCausalLM(config).to(self.device, self.dtype)

    def lora(self) -> Any:
        """The base with LoRA on all linear layers."""
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(self.base(), config)

    def core_region(self) -> Any:
        """The base with CORE_REGION of the same rank on the same layers."""
        config = CoreRegionConfig(
            method=self.method,
            fraction=self.fraction,
            r=RANK,
            lora_alpha=RANK,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(self.base(), config)

    def batch(self) -> torch.Tensor:
        """Token ids of one step: sequences of 512."""
        return torch.randint(0, 4096, (self.tokens // SEQUENCE, SEQUENCE), device=self.device)


def step_of(model: Any, setting: Setting) -> Callable[[], float]:
    """One training step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)
    ids = setting.batch()

    def step() -> float:
        with torch.autocast(setting.device, dtype=torch.bfloat16, enabled=setting.autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def forward_of(model: Any, setting: Setting) -> Callable[[], object]:
    """One forward pass without gradients."""
    model.eval()
    ids = setting.batch()

    def forward() -> object:
        with torch.inference_mode():
            return model(input_ids=ids).logits

    return forward


def silence_upstream() -> None:
    """PEFT 0.21 reads a property that transformers 5.23 deprecates."""
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

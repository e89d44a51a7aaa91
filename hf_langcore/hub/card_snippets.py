"""The code in a mask's card. It runs as it stands, wherever the two repositories can be read."""

from __future__ import annotations

from hf_langcore.hub.markdown import fence

_UNKNOWN = "path/to/the/base/model"


def loading_snippet(repo_id: str, base: str | None, revision: str | None) -> str:
    """Load base and mask, and perturb the core."""
    at = _pinned(base, revision)
    return fence(f"""
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask, evaluate_perplexity, perturb

model = AutoModelForCausalLM.from_pretrained({at})
tokenizer = AutoTokenizer.from_pretrained({at})
core_mask = CoreMask.from_pretrained("{repo_id}")  # revision="..." pins a commit

texts = {{"en": ["The core of a model is what all of its languages need."]}}
print(core_mask, evaluate_perplexity(model, tokenizer, texts).perplexity)
with perturb(model, core_mask, how="zero"):
    print(evaluate_perplexity(model, tokenizer, texts).perplexity)
# Leaving the block has put every bit back.
""")


def adapter_snippet(repo_id: str, base: str | None, revision: str | None) -> str:
    """An adapter that never touches the core."""
    return fence(f"""
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from hf_langcore import CoreRegionConfig

model = AutoModelForCausalLM.from_pretrained({_pinned(base, revision)})
config = CoreRegionConfig(core_mask="{repo_id}", r=16, lora_alpha=16, task_type="CAUSAL_LM")
model = get_peft_model(model, config)
model.print_trainable_parameters()
""")


def freezing_snippet(repo_id: str, base: str | None, revision: str | None) -> str:
    """Full fine-tuning of everything else."""
    # Model and tokenizer as objects: TRL reads the config of a named model from its newest revision.
    at = _pinned(base, revision)
    return fence(f"""
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreRegionSFTConfig, CoreRegionSFTTrainer

has_gpu = torch.cuda.is_available()
trainer = CoreRegionSFTTrainer(
    model=AutoModelForCausalLM.from_pretrained({at}),
    processing_class=AutoTokenizer.from_pretrained({at}),
    args=CoreRegionSFTConfig("tuned", max_steps=2, bf16=has_gpu, use_cpu=not has_gpu),
    train_dataset=Dataset.from_dict({{"text": ["Your task goes here.", "One text a row."]}}),
    core_mask="{repo_id}",
)
trainer.train()
""")


def _pinned(base: str | None, revision: str | None) -> str:
    return f'"{base or _UNKNOWN}"' + (f', revision="{revision}"' if base and revision else "")

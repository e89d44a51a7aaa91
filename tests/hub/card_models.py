"""Tiny models, masks and rows for tests of cards, on a Hub and in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_langcore.architecture import decoder_weights
from hf_langcore.masks import CoreMask, Provenance, fingerprint

BASE = "org/base"
BASE_SHA = "b" * 40


def tiny_llama() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=64, **sizes, **special))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = ["<s>", "</s>", "<pad>", *sorted(alphabet)]
    model = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>", pad_token="<pad>")  # noqa: S106


def save_base(folder: Path) -> Path:
    """A model and its tokenizer in a folder."""
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def mask_of(model: Any, *, name: str | None = BASE, revision: str | None = BASE_SHA, **known: Any) -> CoreMask:
    """The largest weights of a model, with a provenance that knows its base."""
    weights = {key: weight.parameter.detach() for key, weight in decoder_weights(model).items()}
    provenance = Provenance(
        method=known.pop("method", "taylor"),
        base_model=name,
        base_revision=revision,
        base_fingerprint=fingerprint(weights),
        **known,
    )
    scores = {key: weight.abs() for key, weight in weights.items()}
    return CoreMask.from_scores(scores, fraction=0.05, provenance=provenance)


def rows() -> Dataset:
    return Dataset.from_dict({"text": ["the cat sat on the mat and looked at the moon", "a dog ran home"] * 2})

"""Two tiny models, built from their configs without network, and a tokenizer that needs no file."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("NO_COLOR", "1")  # console output is compared as text

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

# Timing depends on the machine; a slow CI must not turn a property into a failure.
settings.register_profile("langcore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("langcore")

VOCABULARY = 120
TEXTS = {
    "en": ["the cat sat on the mat and looked at the moon", "a dog ran home", "we saw two birds in the old tree"],
    "de": ["die Katze sitzt auf der Matte und sieht den Mond", "ein Hund lief nach Hause", "zwei alte Bäume"],
}


class ByteTokenizer:
    """A callable with transformers' tokenizer interface: bytes folded into a small vocabulary."""

    def __init__(self, *, bos: int | None = 1, eos: int | None = 2) -> None:
        self.bos_token_id = bos
        self.eos_token_id = eos
        self.pad_token_id = 0
        self.calls: list[str] = []

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        self.calls.append(text)
        ids = [3 + byte % (VOCABULARY - 3) for byte in text.encode()]
        special = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        return {"input_ids": special + ids}


def build_llama(seed: int = 0, **options: Any) -> Any:
    """A random Llama with grouped queries; `options` override its config."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,  # far enough from zero that edits are felt
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**config, **options})).eval()


def build_gpt2(seed: int = 0, **options: Any) -> Any:
    """A random GPT-2: Conv1D weights, biases, tied embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**{**config, **options})).eval()


def build_t5(seed: int = 0, **options: Any) -> Any:
    """A random T5: an encoder and a decoder, relative positions, tied embeddings."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "initializer_factor": 2.0,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    torch.manual_seed(seed)
    return T5ForConditionalGeneration(T5Config(**{**config, **options})).eval()


def build_bart(seed: int = 0, **options: Any) -> Any:
    """A random BART: learned positions, LayerNorm, biases."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 64,
        "init_std": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    }
    torch.manual_seed(seed)
    return BartForConditionalGeneration(BartConfig(**{**config, **options})).eval()


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as integers, so that -0.0 differs from 0.0 and NaN equals itself."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().clone().contiguous().view(whole)


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every bit of a model."""
    return {name: bits_of(parameter) for name, parameter in model.named_parameters()}


def same_bits(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Whether a model still holds what `snapshot` saw."""
    after = snapshot(model)
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def texts() -> dict[str, list[str]]:
    return {language: list(documents) for language, documents in TEXTS.items()}


@pytest.fixture
def llama() -> Any:
    return build_llama()


@pytest.fixture
def gpt2() -> Any:
    return build_gpt2()


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    """Both tiny models; a model named by LANGCORE_TEST_MODEL replaces the Llama."""
    name = os.environ.get("LANGCORE_TEST_MODEL")
    if name and request.param == "llama":
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    return {"llama": build_llama, "gpt2": build_gpt2}[request.param]()


@pytest.fixture
def words() -> Any:
    """A real fast tokenizer of letters with T5's end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    letters = {chr(code): code - 29 for code in range(32, 127)} | {"<pad>": 0, "</s>": 2, "<unk>": 1, "ä": 98}
    inner = Tokenizer(models.WordLevel(letters, unk_token=special["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_input_names=["input_ids", "attention_mask"], **special
    )


@pytest.fixture(params=["t5", "bart"])
def pair_model(request: pytest.FixtureRequest) -> Any:
    """Both tiny encoder-decoder models."""
    return {"t5": build_t5, "bart": build_bart}[request.param]()


@pytest.fixture(scope="session")
def real_model_path() -> Path:
    return _from_environment("LANGCORE_MODEL")


@pytest.fixture(scope="session")
def real_data_path() -> Path:
    return _from_environment("LANGCORE_DATA")


def _from_environment(name: str) -> Path:
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set: it names the folder of a real model or of real text")
    return Path(value)

"""Tiny models of several architectures, masks on them, and what every test of the tuner asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import get_peft_model
from torch import nn

from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear

Builder = Callable[..., Any]

_SMALL = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA_LIKE = {**_SMALL, "intermediate_size": 40, "num_key_value_heads": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """PEFT 0.21 reads a property that transformers 5.23 deprecates; neither is ours to change."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"))


def _llama(**options: Any) -> Any:
    config = transformers.LlamaConfig(**{**_LLAMA_LIKE, **options})
    return transformers.LlamaForCausalLM(config)


def _gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=61, n_embd=24, n_layer=2, n_head=4, n_positions=32)
    return transformers.GPT2LMHeadModel(config)


def _opt() -> Any:
    config = transformers.OPTConfig(**_SMALL, ffn_dim=40, max_position_embeddings=32, word_embed_proj_dim=24)
    return transformers.OPTForCausalLM(config)


def _qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_LLAMA_LIKE, head_dim=8))


def _gemma3() -> Any:
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**_LLAMA_LIKE, head_dim=8))


_BUILDERS: dict[str, Builder] = {
    "llama": _llama,
    "llama-tied": lambda: _llama(tie_word_embeddings=True),
    "gpt2": _gpt2,
    "opt": _opt,
    "qwen3": _qwen3,
    "gemma3": _gemma3,
}


def build(kind: str) -> Any:
    """The same tiny model on every call."""
    torch.manual_seed(0)
    return _BUILDERS[kind]().eval()


@pytest.fixture(params=list(_BUILDERS))
def any_model(request: pytest.FixtureRequest) -> Any:
    """A tiny model of each architecture in turn."""
    return build(request.param)


@pytest.fixture
def llama() -> Any:
    return build("llama")


@pytest.fixture
def gpt2() -> Any:
    return build("gpt2")


@pytest.fixture
def build_model() -> Builder:
    return build


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.arange(20).view(2, 10) % 61


@pytest.fixture
def saved_base(tmp_path: Path) -> Path:
    """A folder with the tiny Llama."""
    build("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def mask_of(model: nn.Module, which: str = "top", *, fraction: float = 0.2, seed: int = 0) -> CoreMask:
    """A mask over all decoder-layer weights: the largest ("top") or any ("random")."""
    scores = {name: weight.parameter.detach().float().abs() for name, weight in decoder_weights(model).items()}
    return CoreMask.from_scores(scores, fraction=fraction, which=which, seed=seed)


@pytest.fixture
def make_mask() -> Callable[..., CoreMask]:
    return mask_of


def wrap(model: nn.Module, core_mask: CoreMask | None = None, *, adapter_name: str = "default", **options: Any) -> Any:
    """A PeftModel whose adapter changes something: init_weights is off."""
    options = {"init_weights": False, "r": 4, **options}
    mask = core_mask if core_mask is not None else mask_of(model)
    return get_peft_model(model, CoreRegionConfig(core_mask=mask, **options), adapter_name=adapter_name)


@pytest.fixture
def make_wrapped() -> Callable[..., Any]:
    return wrap


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bits as integers: NaN equals itself and -0.0 differs from 0.0."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().clone().view(integers[tensor.element_size()])


@pytest.fixture
def bits() -> Callable[[torch.Tensor], torch.Tensor]:
    return _bits


@pytest.fixture
def snapshot() -> Callable[[nn.Module], dict[str, torch.Tensor]]:
    """All weights of the bare model as bits."""
    return lambda model: {name: _bits(weight.parameter) for name, weight in bare_weights(model).items()}


@pytest.fixture
def layers() -> Callable[[nn.Module], list[CoreRegionLinear]]:
    return lambda model: [module for module in model.modules() if isinstance(module, CoreRegionLinear)]


@pytest.fixture
def plant() -> Callable[[torch.Tensor], None]:
    """Put -0.0 into a seventh of the entries, and NaNs of two kinds into two of them."""

    def plant_into(weight: torch.Tensor) -> None:
        with torch.no_grad():
            flat = weight.view(-1)
            flat[::7] = -0.0
            flat[3] = float("nan")
            _bits_view = flat.view({2: torch.int16, 4: torch.int32}[weight.element_size()])
            _bits_view[5] = -1  # a NaN with the sign and the whole payload set

    return plant_into

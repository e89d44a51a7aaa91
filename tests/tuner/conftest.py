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
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


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


def _gpt_neox() -> Any:
    config = transformers.GPTNeoXConfig(**_SMALL, intermediate_size=40, max_position_embeddings=32)
    return transformers.GPTNeoXForCausalLM(config)


def _mixtral() -> Any:
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**_LLAMA_LIKE, **_EXPERTS))


def _qwen3_moe() -> Any:
    options = {**_LLAMA_LIKE, "head_dim": 8, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**options))


def _gpt_oss() -> Any:
    """Its experts are stored as (experts, in, out)."""
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(**_LLAMA_LIKE, **_EXPERTS, head_dim=8))


def _t5() -> Any:
    sizes = {"vocab_size": 61, "d_model": 24, "d_ff": 40, "d_kv": 6, "num_layers": 2, "num_heads": 4}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    return transformers.T5ForConditionalGeneration(config)


_BUILDERS: dict[str, Builder] = {
    "llama": _llama,
    "llama-tied": lambda: _llama(tie_word_embeddings=True),
    "gpt2": _gpt2,
    "opt": _opt,
    "qwen3": _qwen3,
    "gemma3": _gemma3,
    "gpt-neox": _gpt_neox,
    "mixtral": _mixtral,
}
_RARER: dict[str, Builder] = {"qwen3-moe": _qwen3_moe, "gpt-oss": _gpt_oss, "t5": _t5}


def build(kind: str) -> Any:
    """The same tiny model on every call."""
    torch.manual_seed(0)
    return (_BUILDERS | _RARER)[kind]().eval()


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


def mask_of_all(model: nn.Module, which: str = "random", *, fraction: float = 0.2, seed: int = 0) -> CoreMask:
    """A mask over every weight, embeddings and LM head included."""
    scores = {name: weight.parameter.detach().float().abs() for name, weight in bare_weights(model).items()}
    return CoreMask.from_scores(scores, fraction=fraction, which=which, seed=seed)


@pytest.fixture
def make_full_mask() -> Callable[..., CoreMask]:
    return mask_of_all


def wrap(model: nn.Module, core_mask: CoreMask | None = None, *, adapter_name: str = "default", **options: Any) -> Any:
    """A PeftModel whose adapter changes something: init_weights is off."""
    options = {"init_weights": False, "r": 4, **options}
    mask = core_mask if core_mask is not None else mask_of(model)
    return get_peft_model(model, CoreRegionConfig(core_mask=mask, **options), adapter_name=adapter_name)


@pytest.fixture
def make_wrapped() -> Callable[..., Any]:
    return wrap


def _logits(model: Any, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(tokens, **options).logits
    return logits


@pytest.fixture
def logits() -> Callable[..., torch.Tensor]:
    return _logits


def _train(model: nn.Module, tokens: torch.Tensor, *, steps: int = 3, lr: float = 0.02) -> list[float]:
    """Steps of AdamW with weight decay on everything that can be trained; the losses before each step and at the end."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(tokens, labels=tokens).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        losses.append(float(model(tokens, labels=tokens).loss))
    return losses


@pytest.fixture
def train() -> Callable[..., list[float]]:
    return _train


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

"""Which model and tokenizer compressed data needs, and on what machine it was made."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from typing import Any

import torch
from torch import nn

from hf_langcore._version import __version__
from hf_langcore.architecture import bare_weights, unwrap
from hf_langcore.binding import weights_digest
from hf_langcore.data import vocabulary_size
from hf_langcore.modes import adapters_in_force


def model_digest(model: nn.Module) -> str:
    """A digest of all that a model's probabilities depend on: every bit of its weights and adapters."""
    digest = hashlib.blake2b(weights_digest(model).encode(), digest_size=16)
    adapters = adapters_in_force(model)
    own = {id(weight.parameter) for weight in bare_weights(model).values()}
    for name, parameter in model.named_parameters() if adapters else ():
        if id(parameter) not in own:
            digest.update(f"{name}|{parameter.dtype}|{list(parameter.shape)}|".encode())
            digest.update(parameter.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes())
    digest.update(repr(adapters).encode())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of a tokenizer: its whole definition where it can tell, else its vocabulary, else its class."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and callable(getattr(backend, "to_str", None)):
        text = _definition(backend.to_str())
    elif callable(getattr(tokenizer, "get_vocab", None)):
        text = json.dumps(sorted(tokenizer.get_vocab().items()))
    else:
        text = type(tokenizer).__qualname__
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def usable_vocabulary(model: nn.Module) -> int:
    """Number of tokens that a model can read and predict."""
    bare: Any = unwrap(model)
    sizes = [vocabulary_size(bare)]
    for name in ("get_input_embeddings", "get_output_embeddings"):
        weight = getattr(getattr(bare, name, lambda: None)(), "weight", None)
        sizes += [weight.shape[0]] if isinstance(weight, torch.Tensor) and weight.ndim == 2 else []  # noqa: PLR2004
    return min(sizes)


def machine_facts(model: nn.Module) -> dict[str, Any]:
    """What the last bits of probabilities may depend on besides the model."""
    parameter = next(model.parameters())
    device = parameter.device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    config = getattr(unwrap(model), "config", None)
    return {
        "hf_langcore": __version__,
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "constriction": metadata.version("constriction"),
        "device": f"{device.type} {kind}",
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "attention": str(getattr(config, "_attn_implementation", None)),
        "threads": torch.get_num_threads(),
    }


def _definition(text: str) -> str:
    """A tokenizer's JSON without the truncation and padding that calls leave in it."""
    values = json.loads(text)
    return json.dumps({**values, "truncation": None, "padding": None}, sort_keys=True)

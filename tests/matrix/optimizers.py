"""The optimizers of the matrix, each with weight decay as its users set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LEARNING_RATE = 1e-2
# Large, so that what gradient masking lets through is not rounded away in bfloat16 weights.
WEIGHT_DECAY = 0.5

Optimizer = tuple[type[torch.optim.Optimizer], dict[str, Any]]


class MatrixMuon(torch.optim.Muon):
    """Muon steps matrices only; vectors stay as they are."""

    def __init__(self, params: Any, **options: Any) -> None:
        groups = [{**group, "params": [one for one in group["params"] if one.ndim > 1]} for group in params]
        super().__init__([group for group in groups if group["params"]], **options)


def adamw() -> Optimizer:
    return torch.optim.AdamW, {"lr": LEARNING_RATE, "fused": True}


def adam_l2() -> Optimizer:
    return torch.optim.Adam, {"lr": LEARNING_RATE}


def sgd_momentum() -> Optimizer:
    return torch.optim.SGD, {"lr": LEARNING_RATE, "momentum": 0.9}


def adafactor() -> Optimizer:
    from transformers.optimization import Adafactor

    return Adafactor, {"lr": LEARNING_RATE, "scale_parameter": False, "relative_step": False}


def muon() -> Optimizer:
    return MatrixMuon, {"lr": LEARNING_RATE}


def adamw_8bit() -> Optimizer:
    import bitsandbytes

    # Smaller tensors keep float32 state; the matrices of a tiny model are to have 8 bits.
    return bitsandbytes.optim.AdamW8bit, {"lr": LEARNING_RATE, "min_8bit_size": 256}


def lion() -> Optimizer:
    from lion_pytorch import Lion

    return Lion, {"lr": LEARNING_RATE}


def schedule_free() -> Optimizer:
    import schedulefree

    return schedulefree.AdamWScheduleFree, {"lr": LEARNING_RATE}


def plain_sgd() -> Optimizer:
    return torch.optim.SGD, {"lr": LEARNING_RATE}


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "AdamW (fused)": adamw,
    "Adam (L2)": adam_l2,
    "SGD, momentum": sgd_momentum,
    "Adafactor": adafactor,
    "Muon": muon,
    "AdamW, 8-bit": adamw_8bit,
    "Lion": lion,
    "schedule-free AdamW": schedule_free,
}

# Without decay and momentum masking is enough: this shows that the control does mask what it is said to mask.
CHECK = "plain SGD, no decay"

"""The ways of fine-tuning that the experiment on protection compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_langcore.recipes.protection.shields import Frozen

FULL = "full fine-tuning"
ANCHOR = "anchor, uniform"
WEIGHTED = "anchor, by Fisher importance"
GENERAL = "general data, 5 times"

_RATE = 5e-4
RANK = 16


@dataclass(frozen=True, slots=True)
class Method:
    """One way of fine-tuning.

    Attributes:
        name: For tables; different for each method.
        curve: Methods that differ in one strength only share a curve; empty for a method that stands alone.
        learning_rate: Its peak.
        frozen: The weights that stay what they are.
        general_data_ratio: How many times as many tokens of general data as of the task.
        adapter: Train an adapter instead of the weights: "lora", or "core", which never touches the core.
        anchor_strength: The share of the distance to the base that is taken back in a step; None for no anchor.
        weighted: The anchor pulls in proportion to the Fisher importance.
    """

    name: str
    curve: str = ""
    learning_rate: float = _RATE
    frozen: Frozen | None = None
    general_data_ratio: float = 0.0
    adapter: Literal["lora", "core"] | None = None
    anchor_strength: float | None = None
    weighted: bool = False


def standard_methods() -> list[Method]:
    """Frozen cores, controls of equal size, adapters, general data, and anchors of several strengths."""
    rates = (1e-3, _RATE, 2.5e-4, 1e-4, 5e-5)
    uniform, weighted = (0.01, 0.03, 0.1), (0.03, 0.1, 0.3, 1.0)
    return [
        *(Method(f"{FULL}, learning rate {rate:g}", FULL, rate) for rate in rates),
        Method("frozen core, 3 %", frozen="core"),
        Method("frozen random weights, 3 %", frozen="random"),
        Method("frozen largest weights, 3 %", frozen="magnitude"),
        Method("frozen columns by Wanda, 50 %", frozen="columns"),
        Method("frozen random columns, 50 %", frozen="random columns"),
        *(Method(f"{ANCHOR}, {share:g}", ANCHOR, anchor_strength=share) for share in uniform),
        *(Method(f"{WEIGHTED}, {share:g}", WEIGHTED, anchor_strength=share, weighted=True) for share in weighted),
        Method(f"{ANCHOR}, 0.03, and frozen core", anchor_strength=0.03, frozen="core"),
        *_adapters("lora", f"LoRA, r={RANK}"),
        *_adapters("core", f"masked adapter, r={RANK}"),
        Method(GENERAL, GENERAL, general_data_ratio=5),
        Method(f"{GENERAL}, learning rate 0.0001", GENERAL, 1e-4, general_data_ratio=5),
        Method(f"{GENERAL}, and frozen core", general_data_ratio=5, frozen="core"),
        Method(f"{GENERAL}, and {ANCHOR}, 0.03", general_data_ratio=5, anchor_strength=0.03),
    ]


def _adapters(kind: Literal["lora", "core"], title: str) -> list[Method]:
    return [Method(f"{title}, learning rate {rate:g}", title, rate, adapter=kind) for rate in (5e-3, 2e-3, 1e-3)]
